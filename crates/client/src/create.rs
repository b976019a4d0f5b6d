//! Creates a container: its bundle and pipes first, then the call, and all or nothing.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    io,
    path::{Path, PathBuf},
};

use gantry_api::{INIT, types::CreateContainerRequest};
use oci_spec::runtime::Spec;
use tonic::{
    Request,
    metadata::{Ascii, MetadataValue},
};

use crate::{
    bundle::{self, Bundle},
    call::Operation,
    client::Client,
    connection::Api,
    container::Container,
    error::{Error, ErrorKind, Result},
    event,
    exits::Key,
    signal::Signal,
    start::Start,
    start_call::StartCall,
    state::find_container,
    stdio::{ProcessStdio, Stdio, Streams},
    wire,
};

/// Metadata by which the server recognises a request that is repeated.
const IDEMPOTENCY_METADATA: &str = "gantry-idempotency-key";

/// Describes a container to create, see [`Client::create`].
#[derive(Debug)]
#[must_use = "nothing happens before `start`"]
pub struct ContainerBuilder {
    client: Client,
    bundle: PathBuf,
    spec: Option<Spec>,
    streams: Streams,
    at_most_once: bool,
    request: CreateContainerRequest,
}

impl ContainerBuilder {
    pub(crate) fn new(client: &Client, id: &str, bundle: &Path) -> ContainerBuilder {
        ContainerBuilder {
            client: client.clone(),
            bundle: bundle.to_owned(),
            spec: None,
            streams: Streams::default(),
            at_most_once: false,
            request: CreateContainerRequest { id: id.to_owned(), ..Default::default() },
        }
    }

    /// Writes this as the bundle's config.json; without it, the one that is there is used.
    pub fn spec(mut self, spec: Spec) -> Self {
        self.spec = Some(spec);
        self
    }

    /// Where the process reads from.
    pub fn stdin(mut self, stdin: Stdio) -> Self {
        self.streams.stdin = stdin;
        self
    }

    /// Where the process's stdout goes; with a terminal, all of its output.
    pub fn stdout(mut self, stdout: Stdio) -> Self {
        self.streams.stdout = stdout;
        self
    }

    /// Where the process's stderr goes; not used with a terminal.
    pub fn stderr(mut self, stderr: Stdio) -> Self {
        self.streams.stderr = stderr;
        self
    }

    /// Hands the ends of the pipes over before the process starts, so that nothing of its output
    /// waits. An error calls the creation off.
    pub fn attach(
        mut self,
        attach: impl FnOnce(ProcessStdio) -> io::Result<()> + Send + 'static,
    ) -> Self {
        self.streams.attach = Some(Box::new(attach));
        self
    }

    /// Name or absolute path of a runc-compatible runtime, instead of the server's default.
    pub fn runtime(mut self, runtime: impl Into<String>) -> Self {
        self.request.runtime = runtime.into();
        self
    }

    /// Arguments put before the runtime's sub-command.
    pub fn runtime_args(mut self, args: impl IntoIterator<Item = String>) -> Self {
        self.request.runtime_args = args.into_iter().collect();
        self
    }

    /// Labels, kept with the container.
    pub fn labels(mut self, labels: impl IntoIterator<Item = String>) -> Self {
        self.request.labels = labels.into_iter().collect();
        self
    }

    /// Has the runtime use MS_MOVE instead of pivot_root, for a root on an initramfs.
    pub fn no_pivot_root(mut self, no_pivot_root: bool) -> Self {
        self.request.no_pivot_root = no_pivot_root;
        self
    }

    /// Restores a checkpoint instead of starting the configured program.
    pub fn checkpoint(mut self, name: impl Into<String>) -> Self {
        self.request.checkpoint = name.into();
        self
    }

    /// Where the checkpoint is, if not in `<bundle>/checkpoints`.
    pub fn checkpoint_dir(mut self, dir: &Path) -> Result<Self> {
        self.request.checkpoint_dir = wire::path(dir)?;
        Ok(self)
    }

    /// Does not start the program again where the connection was lost and the server, back again,
    /// knows nothing of it: the program may have run for a moment. The error is
    /// [`ErrorKind::Unavailable`] then, and nothing is left.
    pub fn at_most_once(mut self) -> Self {
        self.at_most_once = true;
        self
    }

    /// Creates the container and starts its first process.
    ///
    /// If the answer is lost with the connection, the server is asked for the container and its
    /// events, for as long as the client's patience lasts: a container that was started is returned, and one
    /// that never was is created again (but see [`Self::at_most_once`]). A server that is
    /// killed in the middle of a start removes what it was starting when it comes back, so that the
    /// program then runs a second time, after a short first run without any event.
    ///
    /// If that fails everything is as before. Run the future to its end: when it is dropped, what
    /// was prepared is removed although the server may still be starting the container.
    pub async fn start(mut self) -> Result<Container> {
        self.request.bundle_path = wire::path(&self.bundle)?;
        if bundle::is_used(&self.bundle) {
            refuse_living(&self.client, &self.request.id).await?;
        }
        let command = self.command();
        if self.wants_terminal()? {
            self.streams.merge_for_terminal();
        }
        let bundle = self.write_bundle().await?;
        let key = Key { container: self.request.id.clone(), process: INIT.to_owned() };
        let start = Start::prepare(&self.client, key.clone(), &self.bundle, &mut self.streams)?;
        self.request.stdin.clone_from(&start.paths.stdin);
        self.request.stdout.clone_from(&start.paths.stdout);
        self.request.stderr.clone_from(&start.paths.stderr);
        let (client, at_most_once) = (&self.client, self.at_most_once);
        let idempotency = idempotency_key();
        let call = || create(client, &self.request, idempotency.as_ref(), command.as_deref());
        let start_call = StartCall { client, key: &key, at_most_once, has_key: true };
        let pid = match start_call.run(call).await {
            Ok(pid) => pid,
            Err(error) => {
                if error.is_ambiguous() {
                    abandon(&self.client, &self.request).await;
                }
                return Err(error);
            }
        };
        bundle.keep();
        Ok(Container::new(start.succeeded(pid), Some(self.bundle)))
    }

    fn wants_terminal(&self) -> Result<bool> {
        match &self.spec {
            Some(spec) => Ok(spec.process().as_ref().is_some_and(|p| p.terminal() == Some(true))),
            None => bundle::wants_terminal(&self.bundle),
        }
    }

    async fn write_bundle(&mut self) -> Result<Bundle> {
        let Some(spec) = self.spec.take() else { return Ok(Bundle::existing(&self.bundle)) };
        let dir = self.bundle.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "the caller's runtime has its own say about threads"
        )]
        let written = tokio::task::spawn_blocking(move || Bundle::write(&dir, &spec)).await;
        written
            .unwrap_or_else(|e| Err(Error::io("write bundle", &self.bundle, io::Error::other(e))))
    }

    /// The program, by which a start failure is judged.
    fn command(&self) -> Option<String> {
        let process = self.spec.as_ref()?.process().as_ref()?;
        process.args().as_ref()?.first().cloned()
    }
}

// These do not borrow the builder: it holds a callback that need not be `Sync`, and what borrows it
// over an await could not be spawned.

/// Refuses to overwrite the bundle of a container that lives.
async fn refuse_living(client: &Client, id: &str) -> Result<()> {
    let Some(container) = find_container(&client.connection, id).await? else {
        return Ok(());
    };
    let message = format!("container {id} already exists, {}", container.status);
    Err(Error::new(format!("create container {id}"), ErrorKind::AlreadyExists(message)))
}

async fn create(
    client: &Client,
    request: &CreateContainerRequest,
    idempotency: Option<&MetadataValue<Ascii>>,
    command: Option<&str>,
) -> Result<Option<u32>> {
    let operation = Operation::once(format!("create container {}", request.id)).starts(command);
    let create = |mut api: Api, request| {
        let mut request = Request::new(request);
        if let Some(key) = idempotency {
            request.metadata_mut().insert(IDEMPOTENCY_METADATA, key.clone());
        }
        async move { api.create_container(request).await }
    };
    let created = client.connection.call(operation, request.clone(), create).await?;
    let init = created.container.and_then(|c| c.processes.into_iter().next());
    Ok(init.map(|process| process.system_pid))
}

/// A key for one start: servers that know it answer a repeated call with the container that the first one has made.
fn idempotency_key() -> Option<MetadataValue<Ascii>> {
    // Two numbers from the system's random ones, as the standard library has no other way to them.
    let random = || RandomState::new().build_hasher().finish();
    let moment = event::now();
    let numbers = [random(), random(), moment.seconds.unsigned_abs()];
    let key = format!("{:016x}{:016x}{:x}", numbers[0], numbers[1], numbers[2]);
    MetadataValue::try_from(key).ok()
}

/// Ends a container that the server may have started although the answer was an error.
async fn abandon(client: &Client, request: &CreateContainerRequest) {
    let id = &request.id;
    let found = find_container(&client.connection, id).await;
    if found.is_ok_and(|c| c.is_some_and(|c| c.bundle_path == request.bundle_path)) {
        let killed = client.container(id).signal(Signal::KILL).await;
        tracing::warn!(container = id, ?killed, "container of an unanswered create killed");
    }
}

/// A start can be spawned; else this does not compile.
const _: fn(ContainerBuilder) = |builder| {
    fn spawnable<T: Send + 'static>(_: T) {}
    spawnable(builder.start());
};
