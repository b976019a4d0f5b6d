//! A person's session with a process: input, output, signals, window size, and the end.

use std::{future::pending, process::ExitCode, time::Duration};

use gantry_client::Signal;
use tokio::{
    io::{AsyncReadExt, stdin},
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::timeout,
};

use crate::{
    copies::{BUFFER, Copies},
    detach::Detector,
    failure::{Failure, exit_code},
    held::{Held, HeldInput, HeldStreams},
    signals,
    streams::SessionOptions,
    terminal::{self, RawMode},
};

/// What a shell adds to the number of a signal that has ended a program.
pub(crate) const KILLED_BY: u32 = 128;

/// What a program that writes to a pipe without a reader is ended with, see signal(7).
const SIGPIPE: u32 = 13;

/// The most bytes of typed input that are kept for a process that does not read.
const MOST_TYPED: usize = 1 << 20;

/// How long writing the last typed input to the process's pipe may take.
const LAST_TYPED: Duration = Duration::from_millis(100);

/// A session that is being prepared or held.
#[derive(Debug)]
pub(crate) struct Session {
    signals: mpsc::UnboundedReceiver<Signal>,
    /// A signal that came during the start, and is for the process.
    early: Option<Signal>,
    options: SessionOptions,
    kind: Kind,
}

/// What kind of session it is, which decides what happens to the process when the session ends first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    /// The process has a terminal.
    pub(crate) terminal: bool,
    /// The process was started by another command.
    pub(crate) visit: bool,
}

impl Kind {
    /// Whether the process outlives a session that breaks off.
    fn stays(self) -> bool {
        self.terminal || self.visit
    }
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The process has exited with this status.
    Exited(u32),
    /// The process was left running; this is the command's own exit status.
    Left(u32),
}

impl Ended {
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Ended::Exited(status) | Ended::Left(status) => exit_code(*status),
        }
    }

    fn left_by(signal: Signal) -> Ended {
        Ended::Left(KILLED_BY + signal.number())
    }
}

/// What has come from this command's input.
#[derive(Debug, Clone, Copy)]
enum Input {
    /// The keys that leave.
    Keys,
    /// The end of the typed input: the terminal was closed.
    HangUp,
}

impl Session {
    /// From now on no signal ends this command: it may be for the process.
    pub(crate) fn prepare(options: &SessionOptions, kind: Kind) -> Result<Session, Failure> {
        let signals = signals::catch().map_err(|e| Failure::io("catch signals", &e))?;
        Ok(Session { signals, early: None, options: options.clone(), kind })
    }

    /// Waits for a start to succeed. A second signal in the meantime calls it off.
    pub(crate) async fn start<T>(
        &mut self,
        start: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut start = Box::pin(start);
        loop {
            tokio::select! {
                started = &mut start => return started,
                Some(signal) = self.signals.recv() => {
                    if self.early.replace(signal).is_some() {
                        return Err(Failure::new(format!("interrupted by {signal}")).own());
                    }
                }
            }
        }
    }

    /// Connects the user and the process until one of them ends the session.
    pub(crate) async fn hold(
        mut self,
        process: &Held<'_>,
        streams: HeldStreams,
    ) -> Result<Ended, Failure> {
        let (leave, mut input) = mpsc::channel(1);
        let _raw = self.take_input(streams.stdin, leave)?;
        let mut output = Copies::start(streams.stdout, streams.stderr, !self.kind.stays());
        let mut window = WindowChanges::watch(self.kind.terminal)?;
        let mut wait = Box::pin(process.end());
        if let Some(early) = self.early.take()
            && let Some(ended) = self.take_signal(process, early).await
        {
            output.leave().await;
            return Ok(ended);
        }
        let left = loop {
            let left = tokio::select! {
                exit = &mut wait => {
                    let status = exit?;
                    output.finish().await?;
                    return Ok(Ended::Exited(status));
                }
                Some(input) = input.recv() => Some(match input {
                    Input::Keys => Ended::Left(0),
                    Input::HangUp => Ended::left_by(Signal::HUP),
                }),
                Some(signal) = self.signals.recv() => self.take_signal(process, signal).await,
                () = window.next() => {
                    resize(process).await;
                    None
                }
                Some(()) = output.broken.recv() => self.lose_output(process).await,
            };
            if let Some(ended) = left {
                break ended;
            }
        };
        output.leave().await;
        Ok(left)
    }

    /// Passes a signal on, or ends the session.
    async fn take_signal(&self, process: &Held<'_>, signal: Signal) -> Option<Ended> {
        match signal {
            // The terminal was closed.
            Signal::HUP if self.kind.stays() => Some(Ended::left_by(signal)),
            _ if self.options.sig_proxy => {
                report(process.signal(signal).await);
                None
            }
            // This command is continued by the kernel without any action.
            Signal::CONT => None,
            _ => Some(Ended::left_by(signal)),
        }
    }

    /// Output cannot be written any more: kills the process, as SIGPIPE would. But not if the terminal was closed, and
    /// not from a session that only attached.
    async fn lose_output(&self, process: &Held<'_>) -> Option<Ended> {
        if self.kind.terminal {
            return Some(Ended::left_by(Signal::HUP));
        }
        if self.kind.visit {
            return Some(Ended::Left(KILLED_BY + SIGPIPE));
        }
        report(process.signal(Signal::KILL).await);
        None
    }

    /// Passes keys or a file on to the process, if it has a stdin.
    fn take_input(
        &self,
        stdin: Option<HeldInput>,
        leave: mpsc::Sender<Input>,
    ) -> Result<Option<RawMode>, Failure> {
        let Some(stdin) = stdin else { return Ok(None) };
        if self.kind.terminal && terminal::stdin_is_terminal() {
            let raw =
                RawMode::enter().map_err(|e| Failure::io("set the terminal to raw mode", &e))?;
            let keys = Detector::new(&self.options.detach_keys);
            tokio::spawn(type_in(stdin, keys, leave));
            return Ok(Some(raw));
        }
        tokio::spawn(feed(stdin, self.kind.visit));
        Ok(None)
    }
}

/// Passes on what is typed, until the keys come or the terminal is closed. Keys are looked for also
/// while the process takes nothing, as one that is paused.
async fn type_in(mut process: HeldInput, mut keys: Detector, leave: mpsc::Sender<Input>) {
    let mut input = stdin();
    let mut buffer = vec![0; BUFFER];
    let mut typed = Vec::new();
    let why = loop {
        tokio::select! {
            read = input.read(&mut buffer), if typed.len() < MOST_TYPED => {
                // A raw terminal has no other end: ctrl-d is a key.
                let Ok(count @ 1..) = read else { break Input::HangUp };
                let (through, found) = keys.pass(&buffer[..count]);
                typed.extend_from_slice(&through);
                if found {
                    break Input::Keys;
                }
            }
            written = process.write(&typed), if !typed.is_empty() => match written {
                Ok(count) => drop(typed.drain(..count)),
                // A process that reads no more can still be detached from.
                Err(_) => typed.clear(),
            },
        }
    };
    let _ = timeout(LAST_TYPED, process.write_all(&typed)).await;
    // The session is over if nobody listens.
    let _ = leave.send(why).await;
}

/// Passes on this command's input; its end is the end of the process's, unless that may get more from
/// elsewhere.
async fn feed(mut process: HeldInput, visit: bool) {
    let mut input = stdin();
    let mut buffer = vec![0; BUFFER];
    loop {
        match input.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            // The process reads no more.
            Ok(count) if process.write_all(&buffer[..count]).await.is_err() => return,
            Ok(_) => {}
        }
    }
    if !visit && let Err(error) = process.close().await {
        error.warn();
    }
}

/// Changes of the window's size, where the process has a terminal.
#[derive(Debug)]
struct WindowChanges {
    signal: Option<tokio::signal::unix::Signal>,
    first: bool,
}

impl WindowChanges {
    fn watch(terminal: bool) -> Result<WindowChanges, Failure> {
        let signal = terminal.then(|| signal(SignalKind::window_change())).transpose();
        let signal = signal.map_err(|e| Failure::io("watch the window", &e))?;
        Ok(WindowChanges { signal, first: true })
    }

    /// The first one comes at once: the size may have changed during the start.
    async fn next(&mut self) {
        match &mut self.signal {
            None => pending().await,
            Some(_) if std::mem::take(&mut self.first) => {}
            Some(signal) => {
                signal.recv().await;
            }
        }
    }
}

async fn resize(process: &Held<'_>) {
    if let Some(size) = terminal::size() {
        report(process.resize(size).await);
    }
}

/// Prints what went wrong.
fn report(result: Result<(), Failure>) {
    if let Err(failure) = result {
        failure.warn();
    }
}
