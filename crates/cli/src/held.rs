//! What a session needs of a process, whichever API the process belongs to.

use std::io;

use gantry_client::{ConsoleSize, Process, ProcessStdio, Signal, Stdin};
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    net::unix::pipe,
};

use crate::{failure::Failure, fifos::Ends, tasks::Task};

/// The process that a session is with.
#[derive(Debug)]
pub(crate) enum Held<'a> {
    /// One of `types.API`.
    Process(&'a Process),
    /// One of containerd's API.
    Task(&'a Task),
}

impl Held<'_> {
    /// Waits for its end; its exit status. Of a task nothing is left then but the container.
    pub(crate) async fn end(&self) -> Result<u32, Failure> {
        match self {
            Held::Process(process) => Ok(process.wait().await?.status),
            Held::Task(task) => task.end().await,
        }
    }

    /// Sends a signal; that the process has just ended is no error.
    pub(crate) async fn signal(&self, signal: Signal) -> Result<(), Failure> {
        match self {
            Held::Process(process) => unless_gone(process.signal(signal).await),
            Held::Task(task) => task.signal(signal).await,
        }
    }

    /// Sets the size of the terminal; that the process has just ended is no error.
    pub(crate) async fn resize(&self, size: ConsoleSize) -> Result<(), Failure> {
        match self {
            Held::Process(process) => unless_gone(process.resize(size).await),
            Held::Task(task) => task.resize(size).await,
        }
    }
}

fn unless_gone(result: Result<(), gantry_client::Error>) -> Result<(), Failure> {
    match result {
        Err(error) if !error.is_gone() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The standard streams of such a process.
#[derive(Default)]
pub(crate) struct HeldStreams {
    pub(crate) stdin: Option<HeldInput>,
    pub(crate) stdout: Option<HeldOutput>,
    pub(crate) stderr: Option<HeldOutput>,
}

/// What a process writes. It ends some time after the process.
pub(crate) type HeldOutput = Box<dyn AsyncRead + Send + Unpin>;

/// What a process reads.
#[derive(Debug)]
pub(crate) enum HeldInput {
    Process(Stdin),
    Task(pipe::Sender, Task),
}

impl HeldInput {
    /// Writes a part; what was written is told, also if this is not waited for to its end.
    pub(crate) async fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            HeldInput::Process(stdin) => stdin.write(data).await,
            HeldInput::Task(pipe, _) => pipe.write(data).await,
        }
    }

    pub(crate) async fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        match self {
            HeldInput::Process(stdin) => stdin.write_all(data).await,
            HeldInput::Task(pipe, _) => pipe.write_all(data).await,
        }
    }

    /// The process reads no more than what was written.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self {
            HeldInput::Process(stdin) => Ok(stdin.close().await?),
            HeldInput::Task(pipe, task) => {
                drop(pipe);
                task.close_stdin().await
            }
        }
    }
}

impl From<ProcessStdio> for HeldStreams {
    fn from(streams: ProcessStdio) -> HeldStreams {
        let boxed = |output: gantry_client::Output| -> HeldOutput { Box::new(output) };
        HeldStreams {
            stdin: streams.stdin.map(HeldInput::Process),
            stdout: streams.stdout.map(boxed),
            stderr: streams.stderr.map(boxed),
        }
    }
}

impl HeldStreams {
    /// Those of a task.
    pub(crate) fn of_task(ends: Ends, task: &Task) -> HeldStreams {
        let boxed = |output: pipe::Receiver| -> HeldOutput { Box::new(output) };
        HeldStreams {
            stdin: ends.stdin.map(|pipe| HeldInput::Task(pipe, task.clone())),
            stdout: ends.stdout.map(boxed),
            stderr: ends.stderr.map(boxed),
        }
    }
}
