//! The life of a server and its container, with a call that fails.

use std::{error::Error as _, process::ExitStatus, time::Duration};

use gantry_api::{
    INIT,
    types::{Event, SignalRequest, StateRequest},
};
use gantry_tests::{Container, Process, Runtime, Server, leftovers::OpenFiles, processes};
use rustix::process::Signal;
use tonic::{Code, Status};

use crate::known::is_known_panic;
use crate::tracing::{SERVERS, Tracing};

const CONTAINER: &str = "c";

/// Its last words are read when it has ended.
const INIT_SCRIPT: &str = "trap 'echo bye; exit 3' TERM; echo ready; sleep 1000000 & wait";

/// Ends when its stdin does.
const READER_SCRIPT: &str = "cat; exit 5";

/// Lives on when the server is killed.
const WAITER_SCRIPT: &str = "trap 'exit 6' TERM; echo ready; sleep 1000000 & wait";

/// Calls that may be refused, or cut, because of the one that fails.
const REFUSALS: usize = 3;

/// Between a call that was refused and the next try.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Life {
    pub(crate) server: Server,
    /// All processes that were started, and their exit statuses, as they end.
    pub(crate) ended: Vec<(String, u32)>,
    /// What a server without containers has open.
    pub(crate) open_files: OpenFiles,
    /// A server has panicked in a way that cannot be mended.
    pub(crate) known_panic: bool,
    tracing: Tracing,
    refusals: usize,
}

impl Life {
    /// From beginning to end. The points that were reached.
    pub(crate) async fn live(point: Option<String>) -> Vec<String> {
        let tracing = Tracing::new(point);
        let setup = Server::setup(Runtime::Crun).binary(&tracing.script());
        let server = setup.prepare().expect("was seen to be possible");
        let mut life = Self {
            server,
            ended: Vec::new(),
            open_files: OpenFiles::default(),
            known_panic: false,
            tracing,
            refusals: 0,
        };
        let [first, second] = SERVERS;
        life.start(first).await;
        life.open_files = OpenFiles::of(life.server.pid(), life.server.work());
        let mut container = life.create().await;
        container.init.pipes().stdout_until("ready").await;
        let mut reader = life.exec(&container, "reader", READER_SCRIPT).await;
        life.close_stdin(&mut reader).await;
        life.expect_exit(&reader, 5).await;
        let mut waiter = life.exec(&container, "waiter", WAITER_SCRIPT).await;
        waiter.pipes().stdout_until("ready").await;
        life.expect_processes(&[&container.init, &waiter]).await;

        life.server.kill().await;
        life.start(second).await;
        life.expect_processes(&[&container.init, &waiter]).await;
        life.terminate(&waiter).await;
        life.expect_exit(&waiter, 6).await;
        // Nobody reads what it writes in the end.
        container.init.pipes().hang_up();
        life.terminate(&container.init).await;
        life.expect_exit(&container.init, 3).await;
        container.init.pipes().reopen();
        assert_eq!(container.init.pipes().stdout_text().await, "bye\n", "unread output is lost");
        life.conclude().await
    }

    pub(crate) fn reached(&self) -> Vec<String> {
        self.tracing.reached()
    }

    /// A server that cannot start may say so and end.
    async fn start(&mut self, name: &str) {
        self.tracing.begin(name);
        let ended = match self.server.try_start().await {
            Ok(()) => self.ended_before_it_was_ready().await,
            Err(ended) => Some(ended),
        };
        if let Some(ended) = ended {
            self.known_panic |= is_known_panic(&self.server.log());
            let by_itself = ended.code() == Some(1) || self.known_panic;
            assert!(by_itself, "the server does not end by itself: {ended}");
            self.tracing.end();
            self.server.start_again().await;
        }
    }

    /// It answers some calls before it knows its containers.
    async fn ended_before_it_was_ready(&mut self) -> Option<ExitStatus> {
        while self.server.service.api().state(StateRequest::default()).await.is_err() {
            if let Some(ended) = self.server.ended() {
                return Some(ended);
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    async fn create(&mut self) -> Container {
        let mut cut = false;
        loop {
            let new = self.server.container(CONTAINER).sh(INIT_SCRIPT);
            match new.create().await {
                Ok(container) => return container,
                Err(error) => cut = self.not_started(INIT, &error, cut).await,
            }
        }
    }

    async fn exec(&mut self, container: &Container, id: &str, script: &str) -> Process {
        let mut cut = false;
        loop {
            match container.exec(id).sh(script).start().await {
                Ok(process) => return process,
                Err(error) => cut = self.not_started(id, &error, cut).await,
            }
        }
    }

    /// What was refused is not there. If the connection broke on the way, now or before, it may be there
    /// or still be started, and is killed. Returns whether the connection broke.
    async fn not_started(&mut self, process: &str, error: &Status, cut: bool) -> bool {
        let cut = cut || error.source().is_some();
        if !(cut && error.code() == Code::AlreadyExists) {
            self.refused("a start", error).await;
        }
        if self.processes().await.iter().any(|(id, _)| id == process) {
            assert!(cut, "{process} was refused with {error:?}, and runs");
            self.kill(process).await;
        }
        tokio::time::sleep(PAUSE).await;
        cut
    }

    async fn kill(&mut self, process: &str) {
        let (id, pid) = (CONTAINER.to_owned(), process.to_owned());
        let request = SignalRequest { id, pid, signal: 9 };
        let _ = self.server.service.api().signal(request).await;
        let events = &self.server.service.events;
        // Of those before this one, none has ended with this.
        let killed = |event: &Event| event.pid == process && event.status == 137;
        events.wait(0, &format!("exit of {process}, which was killed"), killed).await;
        self.ended.push((process.to_owned(), 137));
    }

    async fn close_stdin(&mut self, process: &mut Process) {
        process.pipes().stdin = None;
        while let Err(error) = process.close_stdin().await {
            if process.has_exited() {
                return;
            }
            self.refused("closeStdin", &error).await;
        }
    }

    async fn terminate(&mut self, process: &Process) {
        let mut cut = false;
        while let Err(error) = process.signal(15).await {
            // One whose answer was lost may have ended it.
            let is_gone = [Code::NotFound, Code::FailedPrecondition].contains(&error.code());
            if process.has_exited() || cut && is_gone {
                return;
            }
            cut |= error.source().is_some();
            self.refused("signal", &error).await;
        }
    }

    async fn expect_exit(&mut self, process: &Process, status: u32) {
        assert_eq!(process.exit().await, status, "status of {}", process.id);
        self.ended.push((process.id.clone(), status));
    }

    async fn expect_processes(&mut self, wanted: &[&Process]) {
        let mut found = self.processes().await;
        found.sort();
        let wanted: Vec<_> = wanted.iter().map(|p| (p.id.clone(), p.system_pid)).collect();
        assert_eq!(found, wanted, "what State says");
    }

    /// Ids and pids of the processes that State lists.
    async fn processes(&mut self) -> Vec<(String, u32)> {
        loop {
            match self.server.service.state(CONTAINER).await {
                Ok(state) => {
                    let processes = state.processes.into_iter();
                    return processes.map(|process| (process.pid, process.system_pid)).collect();
                }
                Err(error) if error.code() == Code::NotFound => return Vec::new(),
                Err(error) => self.refused("State", &error).await,
            }
        }
    }

    /// A call of the caller's was refused: once it may be, because of the fault.
    async fn refused(&mut self, call: &str, error: &Status) {
        let ended = processes::ends_within(self.server.pid(), Duration::ZERO).await;
        assert!(!ended, "the server has died in {call}: {error:?}");
        self.refusals += 1;
        assert!(self.refusals <= REFUSALS, "{call} is refused again and again: {error:?}");
        tokio::time::sleep(PAUSE).await;
    }

    /// The end of the server.
    pub(crate) async fn stop(&mut self) {
        let (status, _) = self.server.end(Signal::TERM).await;
        // It may say that it could not clean up.
        assert!(matches!(status.code(), Some(0 | 1)), "on SIGTERM: {status}");
    }
}
