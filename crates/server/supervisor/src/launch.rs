//! Brings a process to life: a shim, the runtime call it makes, and what to do when that fails.
//!
//! ```text
//! turn --> placed --> ordered --> launched           the shim has the process, and the server has a pidfd
//!                        |   `--> failed             the error is the shim's report, with the runtime's log
//!                        `------> given up, overdue  the shim kills the runtime; if it does not, it is killed
//! ```
//!
//! The launch's deadline begins with its turn. The wait for a turn has none: turns go on even where all runtimes hang
//! ([`crate::turns`]), and whoever waits behind many others has no runtime yet that could hang. A caller that goes away
//! gives the launch up in every state, and what was started is killed before the launch returns.

use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gantry_domain::{Namespace, ProcessSpec, Refusal, Stdio};
use gantry_failpoints::{Point, reach};
use gantry_runtime::{Files, OciError, OciRuntime, Outcome, Verb, step, traced};
use gantry_shim_proto::{CONSOLE_FILE, LOG_FILE, Launch, ToShim};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{Instrument, Span};

use crate::{
    Caller, PipeOwner, Services, SupervisorError,
    handle::Reply,
    running_process::RunningProcess,
    shim_link::{Report, StartedShim},
    shim_pool::PlacedShim,
    state_dir::pipes,
    turns::{Lane, Turn},
};

/// How long a shim may take to kill the runtime and report that.
const ABORT_GRACE: Duration = Duration::from_secs(5);

/// How the shim is to call the runtime.
pub(crate) struct RuntimeCall {
    pub(crate) runtime: OciRuntime,
    pub(crate) verb: Verb,
    pub(crate) argv: Vec<String>,
    /// More variables for this call, `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    /// Id, bundle and runtime of the container.
    pub(crate) owner: [String; 3],
    /// Of the container.
    pub(crate) namespace: Namespace,
    /// As the spec has it.
    pub(crate) oom_score_adj: Option<i32>,
    /// Of the process's stdio.
    pub(crate) pipe_owner: PipeOwner,
}

/// The right to launch something now.
pub(crate) struct LaunchTurn {
    /// Others wait until it is over.
    _turn: Turn,
    /// End of `start_timeout`, which began with the turn.
    deadline: Instant,
}

impl Services {
    /// Waits for the turn of a launch, unless its caller goes away meanwhile.
    pub(crate) async fn turn<T>(
        &self,
        caller: Caller,
        lane: Lane,
        reply: &mut Reply<T>,
    ) -> Result<LaunchTurn, SupervisorError> {
        let turn = async {
            tokio::select! {
                biased;
                turn = self.turns.take(caller, lane) => Some(turn),
                () = reply.closed() => None,
            }
        };
        let turn = turn.instrument(step("turn")).await;
        match turn.ok_or(SupervisorError::CallerGone)? {
            Ok(turn) => {
                let deadline = Instant::now() + self.settings.start_timeout;
                Ok(LaunchTurn { _turn: turn, deadline })
            }
            Err(_) if self.turns.are_closed() => Err(SupervisorError::Draining),
            Err(_) => Err(Refusal::STOPPED.into()),
        }
    }

    /// Starts a process through a shim. `call` makes the command line once the files are known. `given_up` resolves when
    /// the launch is to be aborted.
    pub(crate) async fn launch(
        &self,
        turn: &LaunchTurn,
        placed: PlacedShim<'_>,
        spec: &ProcessSpec,
        call: impl FnOnce(Files<'_>) -> RuntimeCall,
        given_up: impl Future<Output = ()>,
    ) -> Result<RunningProcess, SupervisorError> {
        let span = step("launch");
        let launch = async {
            let launched = self.launch_placed(turn, placed, spec, call, given_up).await?;
            Span::current().record("process.pid", i64::from(launched.pid));
            Ok(launched)
        };
        traced(span, launch).await
    }

    async fn launch_placed(
        &self,
        turn: &LaunchTurn,
        placed: PlacedShim<'_>,
        spec: &ProcessSpec,
        call: impl FnOnce(Files<'_>) -> RuntimeCall,
        given_up: impl Future<Output = ()>,
    ) -> Result<RunningProcess, SupervisorError> {
        self.rcu_warmup.prepare();
        // The shim's working directory, since a socket's address is shorter than a path may be.
        let console = spec
            .terminal
            .then(|| PathBuf::from(format!("/proc/{}/cwd/{CONSOLE_FILE}", placed.shim.pid)));
        let seen = as_text(&placed);
        let call = call(Files { dir: &seen, console: console.as_deref() });
        let measuring = self.runtimes.calls.begin(call.verb);
        let launched = self.order(turn, &placed, spec, &call, given_up).await;
        measuring.end(outcome(&launched));
        match launched {
            Ok(Launched { pid, pidfd }) => {
                reach(Point::ServerLaunchedReceived);
                let adoption = Some(self.runtimes.reaper.adopt(pid));
                Ok(RunningProcess {
                    pid,
                    pidfd: Arc::new(pidfd),
                    link: Some(Arc::new(placed.shim.link)),
                    adoption,
                })
            }
            Err(error) => {
                placed.shim.dismiss().await;
                Err(with_stream(error, &spec.stdio))
            }
        }
    }

    async fn order(
        &self,
        turn: &LaunchTurn,
        placed: &PlacedShim<'_>,
        spec: &ProcessSpec,
        call: &RuntimeCall,
        given_up: impl Future<Output = ()>,
    ) -> Result<Launched, SupervisorError> {
        if spec.stdio.has_held() {
            let stdio = spec.stdio.clone();
            placed.dir.run(move |dir, wait| dir.make_pipes(&stdio, wait)).await?;
        }
        let copy = self.runtimes.in_memory.copy_of(call.runtime.program()).await;
        let copy = copy.as_deref().map(AsFd::as_fd);
        let sent = placed.shim.link.launch(self.launch_record(spec, call, &as_text(placed)), copy);
        sent.map_err(|cause| system("speak to the shim", cause))?;
        reach(Point::ServerLaunchSent);
        // While the runtime works, there is time to start the next shim.
        self.shims.start_spare();
        let launched = self.await_launch(turn, placed, call, given_up);
        traced(call.runtime.step(call.verb), launched).await
    }

    /// `dir` is the process's directory.
    fn launch_record(&self, spec: &ProcessSpec, call: &RuntimeCall, dir: &Path) -> Launch {
        let score = gantry_kernel::oom_score_adj(call.oom_score_adj);
        let env = self.runtimes.environment.lines(call.runtime.variables());
        let Stdio { stdin, stdout, stderr } = &spec.stdio;
        let path = |stream: &Option<PathBuf>, name| match stream.as_deref() {
            None => String::new(),
            held if Stdio::is_held(held) => dir.join(name).to_string_lossy().into_owned(),
            Some(path) => path.to_string_lossy().into_owned(),
        };
        Launch {
            argv: call.argv.clone(),
            terminal: spec.terminal,
            stdin: path(stdin, pipes::STDIN),
            stdout: path(stdout, pipes::STDOUT),
            stderr: path(stderr, pipes::STDERR),
            width: spec.console_size.map_or(0, |size| size.width),
            height: spec.console_size.map_or(0, |size| size.height),
            linger_ms: u32::try_from(self.settings.linger.as_millis()).unwrap_or(u32::MAX),
            env: env.chain(call.env.iter().cloned()).collect(),
            title: self.shims.program().title(&call.owner),
            oom_score_adj: score.map(|score| score.to_string()).unwrap_or_default(),
            logger_env: logger_env(&call.namespace, &call.owner[0]),
            io_uid: call.pipe_owner.uid,
            io_gid: call.pipe_owner.gid,
            directory: call
                .runtime
                .bundle()
                .map_or_else(String::new, |bundle| bundle.display().to_string()),
        }
    }

    async fn await_launch(
        &self,
        turn: &LaunchTurn,
        PlacedShim { shim, dir }: &PlacedShim<'_>,
        call: &RuntimeCall,
        given_up: impl Future<Output = ()>,
    ) -> Result<Launched, SupervisorError> {
        let report = tokio::select! {
            report = timeout_at(turn.deadline, shim.link.receive()) => report,
            () = given_up => {
                self.abort(shim).await;
                return Err(SupervisorError::CallerGone);
            }
        };
        let Ok(report) = report else {
            self.abort(shim).await;
            let after = self.settings.start_timeout;
            return Err(OciError::Deadline { verb: call.verb, after }.into());
        };
        match report {
            Ok(Some(Report::Launched { pid, pidfd })) => {
                let pidfd = pidfd.map_err(|cause| system("take the process over", cause))?;
                Ok(Launched { pid, pidfd })
            }
            Ok(Some(Report::LaunchFailed(error))) => {
                // Without a log, the error has the runtime's exit status only.
                let log = dir.run(|dir, wait| dir.text(LOG_FILE, wait)).await.unwrap_or_default();
                let mut error =
                    OciError::from_launch(error, &call.runtime, call.verb, log.as_deref());
                if let OciError::Wordless { more, .. } = &mut error
                    && let Some(why) = self.runtimes.why_it_cannot_run(&call.runtime).await
                {
                    *more = format!("; nor can it report its version: {why}");
                }
                Err(error.into())
            }
            Ok(Some(Report::Exited { .. }) | None) => {
                Err(system("start the process", std::io::ErrorKind::UnexpectedEof.into()))
            }
            Err(cause) => Err(system("hear from the shim", cause)),
        }
    }

    /// Has the shim kill the runtime and what it started. A shim that does not is killed, and the
    /// runtime with it, which has asked for that (PR_SET_PDEATHSIG).
    async fn abort(&self, shim: &StartedShim) {
        let asked = shim.link.send(&ToShim::Abort).is_ok();
        let answered = asked && timeout(ABORT_GRACE, failed(shim)).await.is_ok();
        if !answered {
            tracing::warn!(shim = shim.pid, "the shim does not abort its launch and is killed");
            self.runtimes.reaper.kill(shim.pid);
        }
    }
}

/// How the runtime's call has ended.
fn outcome(launched: &Result<Launched, SupervisorError>) -> Outcome {
    match launched {
        Ok(_) => Outcome::Done,
        Err(SupervisorError::CallerGone) => Outcome::GivenUp,
        Err(SupervisorError::Oci(OciError::Deadline { .. })) => Outcome::Late,
        Err(_) => Outcome::Failed,
    }
}

/// The environment of a program that reads a container's output, as containerd sets it.
fn logger_env(namespace: &Namespace, id: &str) -> Vec<String> {
    vec![format!("CONTAINER_ID={id}"), format!("CONTAINER_NAMESPACE={}", namespace.name())]
}

/// Names the stream that could not be opened.
fn with_stream(mut error: SupervisorError, stdio: &Stdio) -> SupervisorError {
    if let SupervisorError::Oci(OciError::Stdio { stream, path, .. }) = &mut error {
        *stream = stdio.name_of(path);
    }
    error
}

/// The directory of a process as an argument of the runtime, which is text. A shim works in it.
fn as_text(placed: &PlacedShim<'_>) -> PathBuf {
    let dir = placed.dir.path();
    match dir.to_str() {
        Some(_) => dir.to_owned(),
        None => PathBuf::from(format!("/proc/{}/cwd", placed.shim.pid)),
    }
}

struct Launched {
    pid: u32,
    pidfd: gantry_kernel::PidFd,
}

/// Waits until the launch has failed or the shim is gone. Kills a process that started just before the shim
/// got the abort.
async fn failed(shim: &StartedShim) {
    while let Ok(Some(report)) = shim.link.receive().await {
        match report {
            Report::Launched { pidfd: Ok(pidfd), .. } => {
                let _ = pidfd.send_signal(nix::libc::SIGKILL);
            }
            // The runtime's delete kills it.
            Report::Launched { pidfd: Err(_), .. } => return,
            Report::LaunchFailed(_) | Report::Exited { .. } => return,
        }
    }
}

fn system(what: &str, cause: std::io::Error) -> SupervisorError {
    OciError::System { what: what.to_owned(), cause }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_of_a_logger_has_the_namespace_that_callers_use() {
        let namespace = Namespace::named("moby").unwrap();
        let env = logger_env(&namespace, "c1");
        assert_eq!(env, ["CONTAINER_ID=c1", "CONTAINER_NAMESPACE=moby"]);
    }
}
