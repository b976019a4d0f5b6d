//! Errors as answers to clients of containerd: containerd's codes and texts, which clients compare.
//!
//! A text ends in containerd's name of its code (`: not found`), which clients cut off. What an
//! OCI runtime refuses, and what the state of a task does not allow, are `unknown` errors (code 2) in containerd.

use gantry_domain::{Kind, Phase, ProcessPhase, Refusal};
use gantry_supervisor::SupervisorError;
use tonic::{Code, Status};

use crate::{
    rpc::{self, IDEMPOTENCY_METADATA},
    services::containerd::status,
};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Create,
    Start,
    Delete,
    Kill,
    Exec,
    Resize,
    Pause,
    Resume,
    Update,
    Checkpoint,
    /// Calls that change nothing, and are allowed in every state.
    Look,
}

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// The container's id.
    pub(super) task: String,
    /// Empty for the task's first process.
    pub(super) exec: String,
}

/// A state that does not allow something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Subject {
    /// The answer to a call that has failed; the log has it too.
    pub(super) fn status(&self, call: Call, error: &SupervisorError) -> Status {
        let (code, message) = self.words(call, error);
        tracing::info!(?code, error = message, "request failed");
        Status::new(code, message)
    }

    /// There is no such task.
    pub(super) fn no_task(&self) -> Status {
        status::no_task(&self.task)
    }

    /// There is no such process in it.
    pub(super) fn no_process(&self) -> Status {
        status::no_process(&self.exec)
    }

    fn words(&self, call: Call, error: &SupervisorError) -> (Code, String) {
        use SupervisorError as E;
        match error {
            E::ContainerNotFound(_) => (Code::NotFound, format!("task {} not found", self.task)),
            E::ContainerTaken(_) => {
                (Code::AlreadyExists, format!("task {}: already exists", self.task))
            }
            E::KeyTaken(_) => {
                named(Code::InvalidArgument, &format!("{IDEMPOTENCY_METADATA}: {error}"))
            }
            E::ProcessNotFound(_) | E::ProcessForgotten(_) | E::Refused(Refusal::NoProcess(_)) => {
                (Code::NotFound, format!("process does not exist {}: not found", self.exec))
            }
            E::Refused(Refusal::ProcessTaken(process)) => {
                (Code::AlreadyExists, format!("id {process}: already exists"))
            }
            E::ProcessExited(_) => self.state(call, State::Stopped),
            E::Refused(Refusal::ProcessPhase { phase, .. }) => self.state(call, of_process(*phase)),
            E::Refused(Refusal::Phase(phase)) => self.container_state(call, of_container(*phase)),
            _ if error.is_of_runtime() || matches!(error, E::Mount(_) | E::Bundle(_)) => {
                self.runtime(call, &error.to_string(), error.kind())
            }
            other => named(rpc::code(other.kind()), &begun(call, other.to_string())),
        }
    }

    /// The container's state does not allow it, where the process's is not the reason.
    fn container_state(&self, call: Call, state: State) -> (Code, String) {
        match (call, state) {
            (Call::Start, State::Paused) if !self.exec.is_empty() => {
                named(Code::Unknown, "OCI runtime exec failed: cannot exec in a paused container")
            }
            (Call::Start, _) if !self.exec.is_empty() => {
                let message = format!("container {} init process is not running", self.task);
                named(Code::FailedPrecondition, &message)
            }
            _ => self.state(call, state),
        }
    }

    fn state(&self, call: Call, state: State) -> (Code, String) {
        let name = state.name();
        let message = match (call, state) {
            (Call::Kill, State::Stopped) => {
                return named(Code::NotFound, "process already finished");
            }
            (Call::Kill, _) => return named(Code::FailedPrecondition, "process not created"),
            (Call::Start, _) => format!("cannot start a {name} process"),
            (Call::Delete, _) => format!("cannot delete a {name} process"),
            (Call::Exec, _) => format!("cannot exec in a {name} state"),
            (Call::Pause, State::Created) => "cannot pause task in created state".to_owned(),
            (Call::Pause, _) => format!("cannot pause a {name} container"),
            (Call::Resume, State::Created) => "cannot resume task in created state".to_owned(),
            (Call::Resume, State::Running) => "cannot resume a running process".to_owned(),
            (Call::Resume, _) => format!("cannot resume a {name} container"),
            (Call::Checkpoint, State::Created) => {
                "cannot checkpoint a task in created state".to_owned()
            }
            (Call::Checkpoint, _) => format!("cannot checkpoint a {name} container"),
            (Call::Resize, _) => format!("cannot resize a {name} container"),
            (Call::Update, _) => format!("cannot update a {name} container"),
            (Call::Create | Call::Look, _) => format!("task {} is {name}", self.task),
        };
        named(Code::Unknown, &message)
    }

    /// A runtime call has failed, or what precedes one. An error of the host, not of the task, keeps its code.
    fn runtime(&self, call: Call, words: &str, kind: Kind) -> (Code, String) {
        let words = match words.strip_prefix("oci runtime error: ") {
            Some(said) => format!("OCI runtime {} failed: {said}", self.verb(call)),
            None => words.to_owned(),
        };
        let code = match kind {
            Kind::InvalidArgument | Kind::FailedPrecondition | Kind::NotFound | Kind::Internal => {
                Code::Unknown
            }
            other => rpc::code(other),
        };
        named(code, &begun(call, words))
    }

    /// The runtime's sub-command.
    fn verb(&self, call: Call) -> &'static str {
        match call {
            Call::Create => "create",
            Call::Start if self.exec.is_empty() => "start",
            Call::Start | Call::Exec => "exec",
            Call::Delete => "delete",
            Call::Kill => "kill",
            Call::Pause => "pause",
            Call::Resume => "resume",
            Call::Update => "update",
            Call::Checkpoint => "checkpoint",
            Call::Resize | Call::Look => "state",
        }
    }
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// As in containerd, where a call waits for a start under way.
fn of_process(phase: ProcessPhase) -> State {
    match phase {
        ProcessPhase::Created => State::Created,
        ProcessPhase::Starting | ProcessPhase::Running => State::Running,
        ProcessPhase::Stopped(_) => State::Stopped,
    }
}

fn of_container(phase: Phase) -> State {
    match phase {
        Phase::Starting | Phase::Created => State::Created,
        Phase::Running => State::Running,
        Phase::Paused => State::Paused,
        Phase::Stopped(_) => State::Stopped,
    }
}

/// An error's message with its origin.
fn begun(call: Call, words: String) -> String {
    if call == Call::Create { format!("failed to create shim task: {words}") } else { words }
}

/// A message that ends in its code's name.
fn named(code: Code, message: &str) -> (Code, String) {
    let name = match code {
        Code::InvalidArgument => "invalid argument",
        Code::NotFound => "not found",
        Code::AlreadyExists => "already exists",
        Code::FailedPrecondition => "failed precondition",
        Code::Unavailable => "unavailable",
        Code::Unimplemented => "not implemented",
        Code::ResourceExhausted => "resource exhausted",
        Code::DeadlineExceeded => "context deadline exceeded",
        Code::Cancelled => "context canceled",
        Code::Aborted => "aborted",
        Code::DataLoss => "data loss",
        Code::Internal => "internal",
        _ => "unknown",
    };
    (code, format!("{message}: {name}"))
}

#[cfg(test)]
mod tests;
