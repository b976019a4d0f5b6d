//! Launches a process, or gives the launch up.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use gantry_failpoints::{Point, reach};
use gantry_shim_proto::{FromShim, Launch, LaunchError, WaitStatus};
use rustix::io::Errno;

use super::{Phase, Shim};
use crate::children::{self, Reaped};
use crate::console::ConsoleSocket;
use crate::launch::{Process, Runtime, system};
use crate::logger::{self, Logger};

/// How long until children that could not be found are looked for again.
const KILL_AGAIN: Duration = Duration::from_millis(200);

impl Shim {
    pub(super) fn is_launching(&self) -> bool {
        matches!(self.phase, Phase::Preparing(..) | Phase::Launching(..))
    }

    pub(super) fn launch(&mut self, launch: Box<Launch>, copy: Option<OwnedFd>) {
        reach(Point::ShimLaunchReceived);
        self.linger = Duration::from_millis(launch.linger_ms.into());
        self.copy = copy;
        let title = launch.title.clone();
        if let Err(error) = self.prepare(launch) {
            self.abort(error);
        }
        // Done while the runtime works.
        self.title.set(&title);
    }

    fn prepare(&mut self, launch: Box<Launch>) -> Result<(), LaunchError> {
        let opened = self.streams.open(&launch)?;
        reach(Point::ShimStdioOpened);
        if opened.logger.is_none() {
            return self.start_runtime(&launch, opened.fds);
        }
        self.logger = opened.logger;
        self.phase = Phase::Preparing(launch, opened.fds);
        self.set_deadline(logger::READY_TIME);
        Ok(())
    }

    /// The logger's pipe is readable: the logger may be ready.
    pub(super) fn logger_speaks(&mut self) {
        let Phase::Preparing(launch, fds) = &mut self.phase else { return };
        match self.logger.as_mut().map(Logger::is_ready) {
            Some(Ok(true)) => {}
            Some(Err(error)) => return self.abort(error),
            Some(Ok(false)) | None => return,
        }
        self.deadline = None;
        let (launch, fds) = (std::mem::take(launch), fds.take());
        if let Err(error) = self.start_runtime(&launch, fds) {
            self.abort(error);
        }
    }

    pub(super) fn logger_is_late(&mut self) {
        if let Some(logger) = &self.logger {
            self.abort(logger.unready());
        }
    }

    fn start_runtime(
        &mut self,
        launch: &Launch,
        streams: Option<[OwnedFd; 3]>,
    ) -> Result<(), LaunchError> {
        let console = match launch.terminal {
            true => {
                Some(ConsoleSocket::new(&self.poller).map_err(system("listen on console.sock"))?)
            }
            false => None,
        };
        let runtime = Runtime::spawn(launch, self.copy.take(), streams)?;
        reach(Point::ShimRuntimeSpawned);
        self.phase = Phase::Launching(runtime, console);
        Ok(())
    }

    pub(super) fn receive_terminal(&mut self) {
        let Phase::Launching(_, console) = &mut self.phase else { return };
        let received = console.as_mut().map(|console| console.receive(&self.poller));
        let connected = match received {
            Some(Ok(Some(master))) => {
                *console = None;
                self.streams.connect(master)
            }
            Some(Err(error)) => Err(error),
            Some(Ok(None)) | None => Ok(()),
        };
        if let Err(error) = connected {
            self.abort(system("receive the terminal")(error));
        }
    }

    pub(super) fn children_ended(&mut self) {
        // One signal may stand for many children, and one is all that can be pending.
        let _ = rustix::io::read(&self.signals, &mut [0; 128]);
        if self.is_launching()
            && let Some(Err(error)) = self.logger.as_mut().map(Logger::check)
        {
            return self.abort(error);
        }
        match &mut self.phase {
            // The runtime's process keeps its pid until it is known.
            Phase::Preparing(..) => return,
            Phase::Launching(runtime, _) => match runtime.ended() {
                Ok(None) => return,
                Ok(Some(status)) => self.runtime_ended(status),
                Err(error) => self.abort(system("wait for the runtime")(error)),
            },
            _ => {}
        }
        self.reap();
    }

    fn runtime_ended(&mut self, status: WaitStatus) {
        if status != WaitStatus::Code(0) {
            let printed = match &self.phase {
                Phase::Launching(runtime, _) => runtime.printed(),
                _ => String::new(),
            };
            return self.abort(LaunchError::Runtime { status, printed });
        }
        reach(Point::ShimRuntimeEnded);
        // The terminal was sent before the runtime ended, but may not have been received yet.
        self.receive_terminal();
        if let Phase::Launching(_, Some(_)) = self.phase {
            return self.abort(system("receive the terminal")(Errno::NOTTY.into()));
        }
        if let Phase::Launching(..) = self.phase {
            self.adopt_process();
        }
    }

    fn adopt_process(&mut self) {
        match Process::adopt(self.logger.as_ref().map(Logger::pid)) {
            Ok(process) => {
                if let Some(logger) = &mut self.logger {
                    logger.process_runs();
                }
                let launched = FromShim::Launched { pid: process.number() };
                self.link.send(&launched, Some(process.pidfd()));
                reach(Point::ShimLaunchedSent);
                self.process = Some(process);
                self.phase = Phase::Running;
            }
            Err(error) => self.abort(error),
        }
    }

    /// Gives a launch up. The failure is reported when nothing of it is left.
    pub(super) fn abort(&mut self, error: LaunchError) {
        if let Phase::Launching(runtime, _) = &mut self.phase {
            runtime.kill();
        }
        self.phase = Phase::Aborting(error);
        reach(Point::ShimAborting);
        self.reap();
    }

    pub(super) fn reap(&mut self) {
        loop {
            match children::reap() {
                Reaped::Child(pid, status) => {
                    if let Some(logger) = &mut self.logger {
                        logger.reaped(pid);
                    }
                    if self.process.as_ref().is_some_and(|process| process.pid == pid) {
                        self.process_ended(status);
                    }
                }
                Reaped::None if matches!(self.phase, Phase::Aborting(_)) => {
                    let again = || Instant::now() + KILL_AGAIN;
                    self.kill_again = children::kill_all().err().map(|_| again());
                    return;
                }
                Reaped::None => return,
                Reaped::Childless => break,
            }
        }
        if let Phase::Aborting(error) = &self.phase {
            self.fail(error.clone());
        }
    }

    pub(super) fn fail(&mut self, error: LaunchError) {
        self.streams.end_input();
        self.streams.give_up();
        self.report(FromShim::LaunchFailed(error));
        reach(Point::ShimFailureSent);
    }
}
