use gantry_domain::{ContainerId, Exit, ExitStatus, ProcessId, Timestamp};

use super::*;

const STOPPED: Exit = Exit { status: ExitStatus::Code(0), at: Timestamp(1) };

fn subject(exec: &str) -> Subject {
    Subject { task: "t".to_owned(), exec: exec.to_owned() }
}

fn process() -> ProcessId {
    ProcessId::parse("e").unwrap()
}

fn container() -> ContainerId {
    ContainerId::parse("t").unwrap()
}

fn said(exec: &str, call: Call, error: impl Into<SupervisorError>) -> (Code, String) {
    let status = subject(exec).status(call, &error.into());
    (status.code(), status.message().to_owned())
}

#[test]
fn errors_about_the_state_of_a_task_are_worded_as_containerds() {
    for (call, phase, text) in [
        (Call::Start, Phase::Running, "cannot start a running process"),
        (Call::Start, Phase::Stopped(STOPPED), "cannot start a stopped process"),
        (Call::Start, Phase::Paused, "cannot start a paused process"),
        (Call::Delete, Phase::Running, "cannot delete a running process"),
        (Call::Delete, Phase::Paused, "cannot delete a paused process"),
        (Call::Exec, Phase::Paused, "cannot exec in a paused state"),
        (Call::Exec, Phase::Stopped(STOPPED), "cannot exec in a stopped state"),
        (Call::Pause, Phase::Created, "cannot pause task in created state"),
        (Call::Pause, Phase::Paused, "cannot pause a paused container"),
        (Call::Pause, Phase::Stopped(STOPPED), "cannot pause a stopped container"),
        (Call::Resume, Phase::Created, "cannot resume task in created state"),
        (Call::Resume, Phase::Running, "cannot resume a running process"),
        (Call::Resume, Phase::Stopped(STOPPED), "cannot resume a stopped container"),
        (Call::Resize, Phase::Stopped(STOPPED), "cannot resize a stopped container"),
        (Call::Update, Phase::Stopped(STOPPED), "cannot update a stopped container"),
        (Call::Checkpoint, Phase::Created, "cannot checkpoint a task in created state"),
        (Call::Checkpoint, Phase::Stopped(STOPPED), "cannot checkpoint a stopped container"),
    ] {
        let expected = (Code::Unknown, format!("{text}: unknown"));
        assert_eq!(said("", call, Refusal::Phase(phase)), expected, "{call:?} {phase:?}");
    }
}

#[test]
fn an_exec_of_which_init_does_not_run_cannot_be_started() {
    for phase in [Phase::Created, Phase::Stopped(STOPPED)] {
        let text = "container t init process is not running: failed precondition";
        let expected = (Code::FailedPrecondition, text.to_owned());
        assert_eq!(said("e", Call::Start, Refusal::Phase(phase)), expected);
    }
    let (code, text) = said("e", Call::Start, Refusal::Phase(Phase::Paused));
    assert!(code == Code::Unknown && text.contains("paused container"), "{text}");
    for (phase, text) in [
        (ProcessPhase::Running, "cannot start a running process: unknown"),
        (ProcessPhase::Starting, "cannot start a running process: unknown"),
        (ProcessPhase::Stopped(STOPPED), "cannot start a stopped process: unknown"),
    ] {
        let refusal = Refusal::ProcessPhase { process: process(), phase };
        assert_eq!(said("e", Call::Start, refusal), (Code::Unknown, text.to_owned()));
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let not_found = |text: &str| (Code::NotFound, text.to_owned());
    let gone = || SupervisorError::ContainerNotFound(container());
    assert_eq!(said("", Call::Kill, gone()), not_found("task t not found"));
    let unknown = "process does not exist e: not found";
    assert_eq!(said("e", Call::Look, Refusal::NoProcess(process())), not_found(unknown));
    assert_eq!(
        said("e", Call::Look, SupervisorError::ProcessNotFound(process())),
        not_found(unknown)
    );
    let finished = "process already finished: not found";
    for error in [
        SupervisorError::ProcessExited(process()),
        Refusal::Phase(Phase::Stopped(STOPPED)).into(),
        Refusal::ProcessPhase { process: process(), phase: ProcessPhase::Stopped(STOPPED) }.into(),
    ] {
        assert_eq!(said("", Call::Kill, error), not_found(finished));
    }
    let created = Refusal::ProcessPhase { process: process(), phase: ProcessPhase::Created };
    let text = "process not created: failed precondition".to_owned();
    assert_eq!(said("e", Call::Kill, created), (Code::FailedPrecondition, text));
}

#[test]
fn what_is_taken_exists_already() {
    let taken = |text: &str| (Code::AlreadyExists, text.to_owned());
    let container = SupervisorError::ContainerTaken(container());
    assert_eq!(said("", Call::Create, container), taken("task t: already exists"));
    let refusal = Refusal::ProcessTaken(process());
    assert_eq!(said("e", Call::Exec, refusal), taken("id e: already exists"));
}

#[test]
fn what_the_host_lacks_keeps_its_code() {
    let (code, text) = said("", Call::Pause, SupervisorError::Busy("update"));
    assert_eq!(code, Code::Aborted);
    assert!(text.contains("update") && text.ends_with(": aborted"), "{text}");
    let (code, text) = said("", Call::Create, SupervisorError::Overloaded);
    assert_eq!(code, Code::ResourceExhausted);
    assert!(text.starts_with("failed to create shim task: "), "{text}");
    assert!(text.ends_with(": resource exhausted"), "{text}");
}

#[test]
fn what_a_runtime_says_is_passed_on() {
    let of = |exec, call, kind| {
        subject(exec).runtime(call, "oci runtime error: runc create failed: exec: \"/x\"", kind)
    };
    let said = "runc create failed: exec: \"/x\": unknown";
    for kind in [Kind::InvalidArgument, Kind::FailedPrecondition, Kind::Internal] {
        let text = format!("failed to create shim task: OCI runtime create failed: {said}");
        assert_eq!(of("", Call::Create, kind), (Code::Unknown, text));
    }
    for (exec, call, verb) in [
        ("", Call::Start, "start"),
        ("e", Call::Start, "exec"),
        ("", Call::Pause, "pause"),
        ("", Call::Update, "update"),
    ] {
        let text = format!("OCI runtime {verb} failed: {said}");
        assert_eq!(of(exec, call, Kind::FailedPrecondition), (Code::Unknown, text));
    }
    assert_eq!(of("", Call::Create, Kind::ResourceExhausted).0, Code::ResourceExhausted);
    let late = "runtime create did not finish within 3 s and was killed";
    let (code, text) = subject("").runtime(Call::Create, late, Kind::DeadlineExceeded);
    let expected = format!("failed to create shim task: {late}: context deadline exceeded");
    assert_eq!((code, text), (Code::DeadlineExceeded, expected));
}
