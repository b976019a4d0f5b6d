//! Starts a further process in a container.

use std::{
    io,
    path::{Path, PathBuf},
};

use gantry_api::{
    CONSOLE_SIZE_METADATA,
    types::{self, AddProcessRequest},
};
use tonic::{Request, metadata::MetadataValue};

use crate::{
    call::Operation,
    client::Client,
    connection::Api,
    environment,
    error::{Error, ErrorKind, Result},
    exits::Key,
    pipes,
    process::{ConsoleSize, Process},
    start::Start,
    start_call::StartCall,
    state::{find_container, has_process},
    stdio::{ProcessStdio, Stdio, Streams},
};

/// Describes a process to add to a container, see [`Container::exec`](crate::Container::exec).
#[derive(Debug)]
#[must_use = "nothing happens before `start`"]
pub struct ExecBuilder {
    client: Client,
    pipe_dir: Option<PathBuf>,
    console_size: Option<ConsoleSize>,
    streams: Streams,
    at_most_once: bool,
    request: AddProcessRequest,
}

impl ExecBuilder {
    pub(crate) fn new(client: &Client, request: AddProcessRequest) -> ExecBuilder {
        ExecBuilder {
            client: client.clone(),
            pipe_dir: None,
            console_size: None,
            streams: Streams::default(),
            at_most_once: false,
            request,
        }
    }

    /// Adds to the environment; the last of two values of a name counts.
    pub fn env(mut self, env: impl IntoIterator<Item = String>) -> Self {
        for variable in env {
            environment::set(&mut self.request.env, variable);
        }
        self
    }

    /// Runs in another directory.
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.request.cwd = cwd.into();
        self
    }

    /// Runs as another user.
    pub fn user(mut self, user: types::User) -> Self {
        self.request.user = Some(user);
        self
    }

    /// Gives it a terminal; all its output then comes from stdout.
    pub fn terminal(mut self, terminal: bool) -> Self {
        self.request.terminal = terminal;
        self
    }

    /// The terminal's size from its first byte on, at servers that know how.
    pub fn console_size(mut self, size: ConsoleSize) -> Self {
        self.console_size = Some(size);
        self
    }

    /// Where it reads from.
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.streams.stdin = stdin;
        self
    }

    /// Where its stdout goes; with a terminal, all of its output.
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.streams.stdout = stdout;
        self
    }

    /// Where its stderr goes; not used with a terminal.
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.streams.stderr = stderr;
        self
    }

    /// Hands the ends of the pipes over before it starts. An error calls the start off.
    pub fn attach(
        mut self,
        attach: impl FnOnce(ProcessStdio) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.streams.attach = Some(Box::new(attach));
        self
    }

    /// Makes the pipes in this directory instead of the container's bundle.
    pub fn pipe_dir(mut self, dir: &Path) -> Self {
        self.pipe_dir = Some(dir.to_owned());
        self
    }

    /// As [`ContainerBuilder::at_most_once`](crate::ContainerBuilder::at_most_once).
    pub fn at_most_once(mut self) -> Self {
        self.at_most_once = true;
        self
    }

    /// Starts the process. If that fails everything is as before. If the answer is lost, see
    /// [`ContainerBuilder::start`](crate::ContainerBuilder::start).
    pub async fn start(mut self) -> Result<Process> {
        let pipe_dir = self.find_pipe_dir().await?;
        if self.request.terminal {
            self.streams.merge_for_terminal();
        }
        let key = Key { container: self.request.id.clone(), process: self.request.pid.clone() };
        let start = Start::prepare(&self.client, key.clone(), &pipe_dir, &mut self.streams)?;
        self.request.stdin.clone_from(&start.paths.stdin);
        self.request.stdout.clone_from(&start.paths.stdout);
        self.request.stderr.clone_from(&start.paths.stderr);
        let (client, at_most_once) = (&self.client, self.at_most_once);
        let call = || add(client, &self.request, self.console_size);
        let pid = StartCall { client, key: &key, at_most_once, has_key: false }.run(call).await?;
        Ok(start.succeeded(pid))
    }

    /// Also keeps the pipes of a process that lives from being replaced.
    async fn find_pipe_dir(&mut self) -> Result<PathBuf> {
        if let Some(dir) = &self.pipe_dir
            && !pipes::any_left(dir, &self.request.pid)
        {
            return Ok(dir.clone());
        }
        let id = &self.request.id;
        let operation = format!("start {}/{}", id, self.request.pid);
        let found = find_container(&self.client.connection, id).await?;
        let Some(container) = found else {
            let kind = ErrorKind::NotFound("container not found".to_owned());
            return Err(Error::new(operation, kind));
        };
        if has_process(&container, &self.request.pid) {
            let kind = ErrorKind::AlreadyExists("the process already exists".to_owned());
            return Err(Error::new(operation, kind));
        }
        Ok(self.pipe_dir.take().unwrap_or_else(|| PathBuf::from(container.bundle_path)))
    }
}

// It does not borrow the builder, which holds a callback that need not be `Sync`: what borrows that
// over an await could not be spawned.
async fn add(
    client: &Client,
    request: &AddProcessRequest,
    console_size: Option<ConsoleSize>,
) -> Result<Option<u32>> {
    let size = console_size.map(|ConsoleSize { width, height }| format!("{width}x{height}"));
    let size = size.and_then(|size| MetadataValue::try_from(size).ok());
    let command = request.args.first().map(String::as_str);
    let operation = format!("start {}/{}", request.id, request.pid);
    let operation = Operation::once(operation).starts(command);
    let add = |mut api: Api, message| {
        let mut request = Request::new(message);
        if let Some(size) = &size {
            request.metadata_mut().insert(CONSOLE_SIZE_METADATA, size.clone());
        }
        async move { api.add_process(request).await }
    };
    let added = client.connection.call(operation, request.clone(), add).await?;
    Ok(Some(added.system_pid))
}

/// A start can be spawned; else this does not compile.
const _: fn(ExecBuilder) = |builder| {
    fn spawnable<T: Send + 'static>(_: T) {}
    spawnable(builder.start());
};
