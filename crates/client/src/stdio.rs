//! A process's standard streams, as its caller holds them.

use std::{
    fmt,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use gantry_api::types;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::unix::pipe,
    sync::watch,
    task::JoinHandle,
    time::Sleep,
};

use crate::{
    call::Operation,
    connection::{Api, Connection},
    error::Result,
    exits::{ExitSlot, Key},
    pipes::{self, Pipes, Stream},
    wire,
};

/// Where one of a process's standard streams leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// A pipe whose other end is offered in [`ProcessStdio`].
    Pipe,
    /// A file or named pipe of the caller's.
    Path(PathBuf),
}

/// The caller's ends of the streams that were asked for as [`Stdio::Pipe`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct ProcessStdio {
    /// What is written here the process reads.
    pub stdin: Option<Stdin>,
    /// What the process writes; with a terminal all of its output.
    pub stdout: Option<Output>,
    /// What the process writes to its stderr.
    pub stderr: Option<Output>,
}

/// Receives the streams before the process starts; an error calls the start off.
pub(crate) type Attach = Box<dyn FnOnce(ProcessStdio) -> io::Result<()> + Send>;

/// What a start was asked to do with the three streams.
#[derive(Default)]
pub(crate) struct Streams {
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
    pub(crate) attach: Option<Attach>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries([&self.stdin, &self.stdout, &self.stderr]).finish_non_exhaustive()
    }
}

/// Whether the start that a stream belongs to has succeeded; `None` while it is at work.
pub(crate) type StartOutcome = watch::Receiver<Option<bool>>;

/// What the ends of a process's streams have to know about it.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) connection: Connection,
    pub(crate) key: Key,
    pub(crate) started: StartOutcome,
    pub(crate) exit: ExitSlot,
}

/// The streams' paths as the wire has them; empty is `/dev/null`.
#[derive(Debug, Default)]
pub(crate) struct StdioPaths {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Streams {
    /// With a terminal everything goes through stdout.
    pub(crate) fn merge_for_terminal(&mut self) {
        self.stderr = Stdio::Null;
    }

    /// Makes the pipes in `dir` and opens the caller's ends.
    pub(crate) fn open(
        &self,
        dir: &Path,
        owner: &Owner,
    ) -> Result<(Pipes, StdioPaths, ProcessStdio)> {
        let mut pipes = Pipes::default();
        let mut paths = StdioPaths::default();
        let mut ends = ProcessStdio::default();
        for stream in Stream::ALL {
            let (stdio, path) = match stream {
                Stream::Stdin => (&self.stdin, &mut paths.stdin),
                Stream::Stdout => (&self.stdout, &mut paths.stdout),
                Stream::Stderr => (&self.stderr, &mut paths.stderr),
            };
            match stdio {
                Stdio::Null => {}
                Stdio::Path(file) => *path = wire::path(file)?,
                Stdio::Pipe => {
                    let pipe = stream.path(dir, &owner.key.process);
                    pipes.make(&pipe)?;
                    *path = wire::path(&pipe)?;
                    ends.open(stream, &pipe, owner)?;
                }
            }
        }
        Ok((pipes, paths, ends))
    }
}

impl ProcessStdio {
    /// Opens this side of a running process's pipes again.
    pub(crate) fn reopen(process: &types::Process, owner: &Owner) -> Result<ProcessStdio> {
        let paths = [&process.stdin, &process.stdout, &process.stderr];
        let mut ends = ProcessStdio::default();
        for (stream, path) in Stream::ALL.into_iter().zip(paths) {
            if pipes::is_pipe(Path::new(path)) {
                ends.open(stream, Path::new(path), owner)?;
            }
        }
        Ok(ends)
    }

    /// Opens what is left of the output of a process that has ended.
    pub(crate) fn reopen_output(dir: &Path, owner: &Owner) -> Result<ProcessStdio> {
        let mut ends = ProcessStdio::default();
        for stream in [Stream::Stdout, Stream::Stderr] {
            let path = stream.path(dir, &owner.key.process);
            if pipes::is_pipe(&path) {
                ends.open(stream, &path, owner)?;
            }
        }
        Ok(ends)
    }

    fn open(&mut self, stream: Stream, path: &Path, owner: &Owner) -> Result<()> {
        match stream {
            Stream::Stdin => {
                self.stdin = pipes::open_writer(path)?.map(|pipe| Stdin::new(pipe, owner));
            }
            Stream::Stdout => self.stdout = Some(Output::new(pipes::open_reader(path)?, owner)),
            Stream::Stderr => self.stderr = Some(Output::new(pipes::open_reader(path)?, owner)),
        }
        Ok(())
    }
}

/// The writing end of a process's stdin.
///
/// Shutting it down ([`Stdin::close`] or `AsyncWriteExt::shutdown`) ends the process's input, once
/// its start has succeeded. Dropping it does not: a daemon that goes away must not end the input of
/// its containers.
pub struct Stdin {
    pipe: pipe::Sender,
    owner: Arc<Owner>,
    closing: Option<JoinHandle<Result<()>>>,
}

impl Stdin {
    fn new(pipe: pipe::Sender, owner: &Owner) -> Stdin {
        Stdin { pipe, owner: Arc::new(owner.clone()), closing: None }
    }

    /// Ends the process's input after everything written so far.
    pub async fn close(self) -> Result<()> {
        close_when_started(self.owner).await
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").field("process", &self.owner.key).finish_non_exhaustive()
    }
}

async fn close_when_started(owner: Arc<Owner>) -> Result<()> {
    let mut started = owner.started.clone();
    let started = started.wait_for(Option::is_some).await.is_ok_and(|s| *s == Some(true));
    if !started {
        return Ok(());
    }
    match close_stdin(&owner.connection, &owner.key).await {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    }
}

pub(crate) async fn close_stdin(connection: &Connection, key: &Key) -> Result<()> {
    let request = types::UpdateProcessRequest {
        id: key.container.clone(),
        pid: key.process.clone(),
        close_stdin: true,
        ..Default::default()
    };
    let operation = format!("close stdin of {}/{}", key.container, key.process);
    let close = |mut api: Api, request| async move { api.update_process(request).await };
    connection.call(Operation::repeatable(operation), request, close).await.map(drop)
}

impl AsyncWrite for Stdin {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let owner = Arc::clone(&self.owner);
        let closing = self.closing.get_or_insert_with(|| tokio::spawn(close_when_started(owner)));
        let result = ready!(Pin::new(closing).poll(cx));
        self.closing = None;
        Poll::Ready(result.map_err(io::Error::other)?.map_err(io::Error::other))
    }
}

/// How long the pipe of a process that has exited must be silent to count as ended, where a
/// background child holds it open or a terminal's last output is still on its way.
const SILENCE: Duration = Duration::from_millis(300);

/// The reading end of a process's stdout or stderr.
///
/// Ends when the last writer has closed it, or when the process has exited and nothing more comes:
/// a background child that inherited the stream does not keep it open for the reader.
pub struct Output {
    pipe: pipe::Receiver,
    exited: Option<Exited>,
    silence: Option<Pin<Box<Sleep>>>,
}

type Exited = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl Output {
    fn new(pipe: pipe::Receiver, owner: &Owner) -> Output {
        let mut exit = owner.exit.clone();
        let exited = async move {
            if exit.wait_for(Option::is_some).await.is_err() {
                // The client is gone and the exit will not be known: only the pipe's own end is left.
                std::future::pending::<()>().await;
            }
        };
        Output { pipe, exited: Some(Box::pin(exited)), silence: None }
    }

    /// Whether the process has exited and the pipe was silent since. Called when it is empty.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(exited) = &mut self.exited {
            ready!(exited.as_mut().poll(cx));
            self.exited = None;
        }
        let silence = self.silence.get_or_insert_with(|| Box::pin(tokio::time::sleep(SILENCE)));
        silence.as_mut().poll(cx)
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("pipe", &self.pipe).finish_non_exhaustive()
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.pipe).poll_read(cx, buf) {
            Poll::Ready(result) => {
                self.silence = None;
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(self.poll_over(cx));
                Poll::Ready(Ok(()))
            }
        }
    }
}
