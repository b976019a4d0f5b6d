//! A person's session with a process: input, output, signals, window size, and the end.

use std::{future::pending, io, process::ExitCode, sync::Arc};

use gantry_client::{Error, Output, Process, ProcessStdio, Signal, Stdin};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt, sink, stderr, stdin, stdout},
    signal::unix::{SignalKind, signal},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

use crate::{
    detach::{DetachKeys, Detector},
    failure::{Failure, exit_code},
    signals,
    terminal::{self, RawMode},
};

const BUFFER: usize = 64 * 1024;

/// A session that is being prepared or held.
#[derive(Debug)]
pub(crate) struct Session {
    signals: mpsc::UnboundedReceiver<Signal>,
    /// Came during the start, is for the process.
    early: Option<Signal>,
    detach_keys: DetachKeys,
    terminal: bool,
}

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The process has exited with this status.
    Exited(u32),
    /// The user left it running.
    Detached,
}

impl Ended {
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Ended::Exited(status) => exit_code(*status),
            Ended::Detached => ExitCode::SUCCESS,
        }
    }
}

impl Session {
    /// Before the start: a signal during it is for the process, and must not end this command.
    pub(crate) fn prepare(detach_keys: &DetachKeys, terminal: bool) -> Result<Session, Failure> {
        let signals = signals::catch().map_err(|e| Failure::io("catch signals", &e))?;
        Ok(Session { signals, early: None, detach_keys: detach_keys.clone(), terminal })
    }

    /// Waits for a start to succeed. A second signal in the meantime calls it off.
    pub(crate) async fn start<T>(
        &mut self,
        start: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Failure> {
        let mut start = Box::pin(start);
        loop {
            tokio::select! {
                started = &mut start => return started.map_err(|e| Failure::of_start(&e)),
                Some(signal) = self.signals.recv() => {
                    if self.early.replace(signal).is_some() {
                        return Err(Failure::new(format!("interrupted by {signal}")).own());
                    }
                }
            }
        }
    }

    /// Lets the user and the process talk until one of them leaves.
    pub(crate) async fn hold(
        mut self,
        process: &Process,
        streams: ProcessStdio,
    ) -> Result<Ended, Failure> {
        let detached = Arc::new(Notify::new());
        let _raw = self.take_input(streams.stdin, &detached)?;
        let mut output = Copies::start(streams.stdout, streams.stderr);
        let mut window = WindowChanges::watch(self.terminal)?;
        if let Some(early) = self.early.take() {
            forward(process, early).await;
        }
        let mut wait = Box::pin(process.wait());
        let status = loop {
            tokio::select! {
                exit = &mut wait => break exit?.status,
                () = detached.notified() => return Ok(Ended::Detached),
                Some(signal) = self.signals.recv() => forward(process, signal).await,
                () = window.next() => resize(process).await,
                // As a pipe does it: who writes for nobody is ended.
                Some(()) = output.broken.recv() => forward(process, Signal::KILL).await,
            }
        };
        output.finish().await?;
        Ok(Ended::Exited(status))
    }

    /// Passes keys or a file on to the process, if it wants any.
    fn take_input(
        &self,
        stdin: Option<Stdin>,
        detached: &Arc<Notify>,
    ) -> Result<Option<RawMode>, Failure> {
        let Some(stdin) = stdin else { return Ok(None) };
        let raw = if self.terminal && terminal::stdin_is_terminal() {
            let raw = RawMode::enter();
            Some(raw.map_err(|e| Failure::io("set the terminal to raw mode", &e))?)
        } else {
            None
        };
        let detector = raw.as_ref().map(|_| Detector::new(&self.detach_keys));
        tokio::spawn(feed(stdin, detector, Arc::clone(detached)));
        Ok(raw)
    }
}

/// Copies this command's input to the process until one of them ends it, or the keys come.
async fn feed(mut process: Stdin, mut keys: Option<Detector>, detached: Arc<Notify>) {
    let mut input = stdin();
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match input.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let found = match &mut keys {
            None => process.write_all(&buffer[..count]).await.map(|()| false),
            Some(keys) => {
                let (through, found) = keys.pass(&buffer[..count]);
                process.write_all(&through).await.map(|()| found)
            }
        };
        match found {
            Ok(false) => {}
            Ok(true) => return detached.notify_one(),
            // It reads no more.
            Err(_) => return,
        }
    }
    if let Err(error) = process.close().await {
        eprintln!("gantry: {error}");
    }
}

/// The tasks that copy a process's output to this command's.
#[derive(Debug)]
struct Copies {
    tasks: Vec<JoinHandle<()>>,
    /// Told when the output cannot be written any more.
    broken: mpsc::Receiver<()>,
}

impl Copies {
    fn start(out: Option<Output>, err: Option<Output>) -> Copies {
        let (failed, broken) = mpsc::channel(2);
        let out = out.map(|output| tokio::spawn(copy(output, stdout(), failed.clone())));
        let err = err.map(|output| tokio::spawn(copy(output, stderr(), failed)));
        Copies { tasks: out.into_iter().chain(err).collect(), broken }
    }

    async fn finish(self) -> Result<(), Failure> {
        for task in self.tasks {
            task.await.map_err(|e| Failure::new(format!("copy output: {e}")))?;
        }
        Ok(())
    }
}

async fn copy(mut from: Output, mut to: impl AsyncWrite + Unpin, failed: mpsc::Sender<()>) {
    let Err(error) = copy_all(&mut from, &mut to).await else { return };
    if error.kind() != io::ErrorKind::BrokenPipe {
        eprintln!("gantry: copy output: {error}");
    }
    let _ = failed.send(()).await;
    // The process must be able to end meanwhile, so it must not wait for a full pipe.
    let _ = tokio::io::copy(&mut from, &mut sink()).await;
}

/// Flushes after every piece: a prompt has no newline that would do it.
async fn copy_all(from: &mut Output, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
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

async fn resize(process: &Process) {
    if let Some(size) = terminal::size() {
        tell(process.resize(size).await);
    }
}

async fn forward(process: &Process, signal: Signal) {
    tell(process.signal(signal).await);
}

/// Tells what went wrong, unless it is only that the process has just ended.
fn tell(result: Result<(), Error>) {
    match result {
        Err(error) if !error.is_gone() => eprintln!("gantry: {error}"),
        _ => {}
    }
}
