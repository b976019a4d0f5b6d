//! The shim's life: wait for orders, launch, run, report the exit, linger.
//!
//! ```text
//! Waiting --> Preparing --> Launching --> Running --> Draining --> Over
//!                 |             |                                   ^
//!                 +-------------+------> Aborting ------------------+
//! ```
//!
//! One thread waits for everything at once: the server's records, children, the streams, the logger, and deadlines.
//! Each of these moves the phase on; nothing else waits. A shim whose server has gone goes through the same phases, and
//! exits once its report is acknowledged or on disk and the time for unread output is over.

mod launching;

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use gantry_failpoints::{Point, reach};
use gantry_shim_proto::{ExitFile, FromShim, Launch, LaunchError, ToShim, WaitStatus};

use crate::console::ConsoleSocket;
use crate::launch::{Process, Runtime, system};
use crate::link::{self, Link, Received};
use crate::logger::Logger;
use crate::poll::{EventFlags, Poller, Source};
use crate::state::ExitRecord;
use crate::streams::{Drained, Streams};
use crate::title::Title;

/// How long an exit is held back for a reader that does not keep up with a terminal.
const DRAIN_TIME: Duration = Duration::from_secs(1);

enum Phase {
    /// For the launch order.
    Waiting,
    /// For the program that reads the output of the process to be, which has these standard streams if
    /// it has no terminal.
    Preparing(Box<Launch>, Option<[OwnedFd; 3]>),
    /// The runtime is at work.
    Launching(Runtime, Option<ConsoleSocket>),
    /// The launch failed; what it started is being killed.
    Aborting(LaunchError),
    /// The process lives.
    Running,
    /// The process has ended, and the rest of its terminal's output is being read.
    Draining(ExitFile),
    /// The last record was sent.
    Over,
}

/// One process's shim.
pub(crate) struct Shim {
    title: Title,
    poller: Poller,
    signals: OwnedFd,
    link: Link,
    phase: Phase,
    streams: Streams,
    /// Of the runtime that is to be executed.
    copy: Option<OwnedFd>,
    process: Option<Process>,
    logger: Option<Logger>,
    deadline: Option<Instant>,
    linger: Duration,
    /// The exit or the failed launch, once it was reported.
    last: Option<FromShim>,
    exit: ExitRecord,
    /// When to kill again what could not be killed.
    kill_again: Option<Instant>,
    acknowledged: bool,
}

impl Shim {
    pub(crate) fn new(signals: OwnedFd, title: Title) -> io::Result<Self> {
        let poller = Poller::new()?;
        poller.watch(&signals, Source::Children, EventFlags::IN)?;
        let mut shim = Self {
            title,
            link: Link::new(&poller)?,
            streams: Streams::new(&poller),
            poller,
            signals,
            phase: Phase::Waiting,
            copy: None,
            process: None,
            logger: None,
            deadline: None,
            linger: Duration::ZERO,
            last: None,
            exit: ExitRecord::default(),
            kill_again: None,
            acknowledged: false,
        };
        if let Err(error) = shim.link.listen() {
            shim.fail(system("listen on shim.sock")(error));
        }
        reach(Point::ShimListening);
        Ok(shim)
    }

    /// Returns when there is nothing left to do.
    pub(crate) fn run(mut self) -> io::Result<()> {
        while !self.is_done() {
            for (source, flags) in self.poller.wait(self.next_time())? {
                self.handle(source, flags);
            }
            self.act_on_deadlines();
            self.look_after_the_logger();
        }
        self.link.close();
        reach(Point::ShimClosed);
        Ok(())
    }

    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Waiting => self.link.is_alone(),
            Phase::Over => {
                let known =
                    self.acknowledged || (!self.exit.is_unwritten() && self.link.is_alone());
                let settled = self.logger.as_ref().is_none_or(Logger::is_over);
                known && settled && !self.streams.are_pending()
            }
            _ => false,
        }
    }

    fn handle(&mut self, source: Source, flags: EventFlags) {
        match source {
            Source::Children => self.children_ended(),
            Source::Listener => self.greet(),
            Source::Peers => self.listen_to_peers(),
            Source::Console => self.receive_terminal(),
            Source::Input => self.streams.carry_input(flags),
            Source::Output => {
                // On a pipe's writing end: nobody reads it any more.
                if flags.contains(EventFlags::ERR) {
                    self.streams.lose_output();
                }
                self.carry_output();
            }
            Source::Logger => self.logger_speaks(),
        }
    }

    /// When there is something to do even if nothing happens.
    fn next_time(&self) -> Option<Instant> {
        let times = [
            self.deadline,
            self.exit.write_again_at(),
            self.kill_again,
            self.streams.next_check(),
            self.link.listen_again_at(),
            self.logger.as_ref().and_then(Logger::next_time),
        ];
        times.into_iter().flatten().min()
    }

    fn act_on_deadlines(&mut self) {
        let now = Instant::now();
        let is_over = |time: Option<Instant>| time.is_some_and(|time| time <= now);
        if is_over(self.deadline) {
            self.time_is_up();
        }
        if is_over(self.exit.write_again_at()) {
            self.exit.write_again();
        }
        if is_over(self.kill_again) {
            self.kill_again = None;
            self.reap();
        }
        if is_over(self.streams.next_check()) {
            self.streams.check_readers();
        }
        if is_over(self.link.listen_again_at()) {
            self.link.listen_again();
        }
    }

    /// Lets the logger end once it has read everything, and ends it when its time is over.
    fn look_after_the_logger(&mut self) {
        let is_over = matches!(self.phase, Phase::Over) && !self.streams.are_pending();
        let Some(logger) = &mut self.logger else { return };
        if is_over {
            logger.expect_end();
        }
        if logger.next_time().is_some_and(|time| time <= Instant::now()) {
            logger.hurry();
        }
    }

    /// Reports what has happened so far to a server that connects.
    fn greet(&mut self) {
        let Some(peer) = self.link.accept() else { return };
        if let Some(process) = &self.process {
            let launched = FromShim::Launched { pid: process.number() };
            // If the server is gone again, its connection is closed.
            let _ = link::send(peer, &launched, Some(process.pidfd()));
        }
        if let Some(last) = &self.last {
            let _ = link::send(peer, last, None);
        }
    }

    fn listen_to_peers(&mut self) {
        for received in self.link.receive() {
            self.obey(received);
        }
        if self.link.is_alone() {
            self.abandoned();
        }
    }

    /// The server is gone, and with it whoever waits for an unfinished launch.
    fn abandoned(&mut self) {
        if self.is_launching() {
            self.children_ended();
        }
        if self.is_launching() {
            self.abort(LaunchError::Aborted);
        }
    }

    fn obey(&mut self, Received { record, fd: copy }: Received) {
        match record {
            ToShim::Launch(launch) if matches!(self.phase, Phase::Waiting) => {
                self.launch(launch, copy);
            }
            ToShim::Abort if self.is_launching() => self.abort(LaunchError::Aborted),
            ToShim::CloseStdin => self.streams.close_input(),
            ToShim::Resize { width, height } => self.streams.resize(width, height),
            ToShim::Ack => {
                self.acknowledged = self.last.is_some();
                reach(Point::ShimAcknowledged);
            }
            ToShim::Launch(_) | ToShim::Abort => {}
        }
    }

    fn process_ended(&mut self, status: WaitStatus) {
        reach(Point::ShimProcessReaped);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        self.streams.end_input();
        self.phase = Phase::Draining(ExitFile { status, at });
        self.carry_output();
        if matches!(self.phase, Phase::Draining(_)) {
            if self.streams.has_reader() {
                self.set_deadline(DRAIN_TIME);
            } else {
                self.report_exit();
            }
        }
    }

    fn carry_output(&mut self) {
        match self.phase {
            Phase::Draining(_) => {
                if let Drained::All = self.streams.drain() {
                    self.report_exit();
                }
            }
            Phase::Over => {
                if let Drained::All = self.streams.drain() {
                    self.streams.linger();
                }
            }
            _ => self.streams.carry_output(),
        }
    }

    /// Writes exit.json first, for a server that comes later.
    fn report_exit(&mut self) {
        let Phase::Draining(exit) = self.phase else { return };
        self.exit.write(exit);
        reach(Point::ShimExitRecorded);
        self.report(FromShim::Exited { status: exit.status, at: exit.at });
        reach(Point::ShimExitedSent);
        if let Drained::All = self.streams.drain() {
            self.streams.linger();
        }
        if self.streams.are_pending() {
            self.set_deadline(self.linger);
        }
    }

    fn report(&mut self, last: FromShim) {
        self.link.send(&last, None);
        self.last = Some(last);
        self.phase = Phase::Over;
    }

    fn time_is_up(&mut self) {
        self.deadline = None;
        match self.phase {
            Phase::Draining(_) => self.report_exit(),
            Phase::Over => self.streams.give_up(),
            Phase::Preparing(..) => self.logger_is_late(),
            _ => {}
        }
    }

    fn set_deadline(&mut self, time: Duration) {
        self.deadline = Some(Instant::now() + time);
    }
}
