//! A server of the test's own, from start to finish.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{
    NewContainer, PATIENCE, Runtime, Variant, bundle,
    events::BEGINNING,
    eventually,
    leftovers::{self, OpenFiles},
    processes, programs,
    service::Service,
    skip, variants,
};

/// How the server is started, apart from what a test needs for its own isolation.
#[derive(Debug, Clone)]
#[must_use]
pub struct Setup {
    runtime: Runtime,
    runtime_path: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    binary: PathBuf,
    /// Instead of the one that the server finds by itself.
    shim: Option<PathBuf>,
    /// Instead of one in the test's directory.
    socket: Option<PathBuf>,
    relative: bool,
}

/// A server that was started for one test. Dropping it kills it and everything it started.
#[derive(Debug)]
pub struct Server {
    /// What a test needs to talk to it.
    pub service: Arc<Service>,
    setup: Setup,
    child: Option<Child>,
    open_files: OpenFiles,
    /// Removed when all else is gone.
    work: TempDir,
}

impl Server {
    /// Starts a server whose containers run on `runtime`, or uses the one that the environment
    /// names. `None`, after saying so, when that is not possible here.
    pub async fn start(runtime: Runtime) -> Option<Self> {
        match std::env::var_os("GANTRY_TEST_ADDRESS") {
            None => Self::own(runtime).await,
            Some(address) => Self::foreign(runtime, address.into()),
        }
    }

    /// Starts a server of the test's own.
    pub async fn own(runtime: Runtime) -> Option<Self> {
        Self::setup(runtime).start().await
    }

    /// A server to be started in some special way.
    pub fn setup(runtime: Runtime) -> Setup {
        Setup {
            runtime,
            runtime_path: runtime.name().to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            binary: programs::server(),
            shim: programs::shim(),
            socket: None,
            relative: false,
        }
    }

    fn foreign(runtime: Runtime, address: PathBuf) -> Option<Self> {
        if !runtime.is_installed() {
            skip(&format!("{} is not installed", runtime.name()));
            return None;
        }
        let work = work_directory();
        let now = std::time::SystemTime::now().into();
        let mut service = Service::new(address, work.path(), runtime, now);
        service.prefix = format!("{}-", service.cgroup.trim_start_matches('/'));
        let setup = Self::setup(runtime);
        Some(Self {
            service: Arc::new(service),
            setup,
            child: None,
            open_files: OpenFiles::default(),
            work,
        })
    }

    /// A container that is to be created.
    pub fn container(&self, id: &str) -> NewContainer {
        let container = NewContainer::new(Arc::clone(&self.service), id);
        // A foreign server has a runtime of its own choice.
        if self.child.is_none() { container.runtime(self.setup.runtime) } else { container }
    }

    /// The test's directory.
    #[must_use]
    pub fn work(&self) -> &Path {
        self.work.path()
    }

    /// The server's state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.work().join("state")
    }

    /// What the server keeps over a boot.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.work().join("root")
    }

    /// The server's pid.
    ///
    /// # Panics
    /// When it is not the test's own.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a server of the test's own").id()
    }

    /// How the server has ended, if it has by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().expect("wait for the server")?;
        self.child = None;
        Some(ended)
    }

    /// Whether it was started and not ended.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// What the server has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.work().join("server.log")).unwrap_or_default()
    }

    /// Waits until the server has logged this: what logs does not wait for the log to be written.
    pub async fn logs(&self, text: &str) {
        eventually(&format!("{text:?} in the log"), || self.log().contains(text)).await;
    }

    /// Kills the server the hard way.
    pub async fn kill(&mut self) {
        self.end(Signal::KILL).await;
    }

    /// Ends the server with a signal and returns how it ended, and after how long.
    pub async fn end(&mut self, signal: Signal) -> (ExitStatus, Duration) {
        let mut child = self.child.take().expect("a running server");
        let begin = Instant::now();
        processes::signal(child.id(), signal);
        if !processes::ends_within(child.id(), PATIENCE).await {
            let _ = child.kill();
            panic!("the server does not end on signal {signal:?}; log:\n{}", self.log());
        }
        (child.wait().expect("wait for the server"), begin.elapsed())
    }

    /// Starts the server again on the same state directory and socket.
    pub async fn start_again(&mut self) {
        if let Err(ended) = self.try_start().await {
            panic!("the server does not come up: {ended}; log:\n{}", self.log());
        }
    }

    /// Starts the server, which may end at once.
    ///
    /// # Errors
    /// How it has ended.
    pub async fn try_start(&mut self) -> Result<(), ExitStatus> {
        assert!(self.child.is_none(), "the server runs already");
        self.child = Some(self.setup.spawn(self.work.path()));
        let ended = self.answers().await;
        if ended.is_err() {
            self.child = None;
        }
        ended
    }

    /// Starts the server again with more arguments.
    pub async fn start_again_with(&mut self, arguments: &[&str]) {
        self.setup = self.setup.clone().arguments(arguments);
        self.start_again().await;
    }

    /// Starts another build on the same state directory and socket, with more arguments.
    pub async fn start_again_as(&mut self, variant: &Variant, arguments: &[&str]) {
        self.setup = self.setup.clone().variant(variant).arguments(arguments);
        // One that has nothing to reattach to, as another build may have more open from the start.
        let idle = self.setup.clone().start().await.expect("this one was started too");
        self.open_files = OpenFiles::of(idle.pid(), idle.work());
        idle.finish().await;
        self.start_again().await;
    }

    /// Ends the test: checks the order of all events, that nothing of any container is left, and
    /// that the server ends properly.
    pub async fn finish(mut self) {
        leftovers::assert_none(&self.service, &self.setup.known_roots(self.work())).await;
        self.service.events.assert_consistent();
        if self.child.is_some() {
            leftovers::assert_no_state(&self.state_dir(), &self.service).await;
            // The original leaks a descriptor a container, and exits with status 1.
            if !programs::is_incumbent() {
                self.open_files.assert_unchanged(self.pid(), self.work.path()).await;
            }
            let (status, _) = self.end(Signal::TERM).await;
            assert!(status.success() || programs::is_incumbent(), "on SIGTERM: {status}");
        }
    }

    /// Waits until it answers, unless it ends: the socket alone may be there before, and its metadata may not
    /// be open yet.
    async fn answers(&mut self) -> Result<(), ExitStatus> {
        let begin = Instant::now();
        // There is nothing to wait on before there is a socket.
        while !self.service.is_ready().await {
            if let Some(ended) = self.child.as_mut().expect("a child").try_wait().expect("wait") {
                return Err(ended);
            }
            assert!(begin.elapsed() < PATIENCE, "the server does not answer; log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("log of the server:\n{}", self.log());
        }
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        leftovers::clean_up(&self.service, &self.setup.known_roots(self.work.path()));
    }
}

impl Setup {
    /// Adds arguments.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Adds a variable to the environment.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Containers run on this program, which has the ways of the runtime that was named before.
    pub fn runtime_path(mut self, path: &Path) -> Self {
        path.to_str().expect("UTF-8").clone_into(&mut self.runtime_path);
        self
    }

    /// Runs this file instead of the server under test itself.
    pub fn binary(mut self, path: &Path) -> Self {
        path.clone_into(&mut self.binary);
        self
    }

    /// Runs another build than the one under test.
    pub fn variant(mut self, variant: &Variant) -> Self {
        variant.server.clone_into(&mut self.binary);
        self.shim = Some(variant.shim.clone());
        self
    }

    /// It listens here.
    pub fn socket(mut self, path: &Path) -> Self {
        self.socket = Some(path.to_owned());
        self
    }

    /// Socket and state directory are given relative to the working directory.
    pub fn relative_paths(mut self) -> Self {
        self.relative = true;
        self
    }

    /// Starts it. `None`, after saying so, when that is not possible here.
    pub async fn start(self) -> Option<Server> {
        let mut server = self.prepare()?;
        server.start_again().await;
        server.open_files = OpenFiles::of(server.pid(), server.work());
        Some(server)
    }

    /// Makes everything that it needs to be started. `None`, after saying so, when that is not
    /// possible here.
    #[must_use]
    pub fn prepare(self) -> Option<Server> {
        if std::env::var_os("GANTRY_TEST_ADDRESS").is_some() {
            skip("needs a server of its own");
            return None;
        }
        if !self.runtime.is_installed() {
            skip(&format!("{} is not installed", self.runtime.name()));
            return None;
        }
        let work = work_directory();
        bundle::make_rootfs(&work.path().join("rootfs"));
        let socket = self.socket.clone().unwrap_or_else(|| work.path().join("sock"));
        let service = Service::new(socket, work.path(), self.runtime, BEGINNING);
        let (service, open_files) = (Arc::new(service), OpenFiles::default());
        Some(Server { service, setup: self, child: None, open_files, work })
    }

    /// Starts the process, with all its paths below `work`.
    fn spawn(&self, work: &Path) -> Child {
        let log = File::options().create(true).append(true).open(work.join("server.log"));
        let log = log.expect("open the server's log");
        let mut command = if self.runtime.needs_pure_v1() {
            // A mount namespace of its own, in which only the version 1 hierarchies are left.
            let mut command = Command::new("unshare");
            let script = r#"umount /sys/fs/cgroup/unified && exec "$@""#;
            command.args(["--mount", "sh", "-c", script, "sh"]).arg(&self.binary);
            command
        } else {
            Command::new(&self.binary)
        };
        command.args(self.own_arguments(work)).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(work).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("duplicate the log")).stderr(log);
        // Signals that a terminal sends to the tests are not for the server.
        command.process_group(0).spawn().expect("start the server")
    }

    /// The flags that a test needs for its own isolation.
    fn own_arguments(&self, work: &Path) -> Vec<String> {
        let base = if self.relative { PathBuf::new() } else { work.to_owned() };
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        let mut arguments = vec![
            "-l".to_owned(),
            format!("unix://{}", text(self.socket.clone().unwrap_or_else(|| base.join("sock")))),
            "--state-dir".to_owned(),
            text(base.join("state")),
            "--runtime".to_owned(),
            self.runtime_path.clone(),
            "--log-level".to_owned(),
            // Of Gantry's own; its libraries would log every frame.
            if programs::is_incumbent() { "debug" } else { "info,gantry=debug" }.to_owned(),
        ];
        if !programs::is_incumbent() && !variants::is_earlier(&self.binary) {
            arguments.extend(["--root".to_owned(), text(base.join("root"))]);
        }
        for argument in self.runtime.arguments(&work.join(self.runtime.name())) {
            arguments.extend(["--runtime-args".to_owned(), argument]);
        }
        if let Some(shim) = &self.shim {
            let flag = if programs::is_incumbent() { "--shim" } else { "--shim-binary" };
            arguments.extend([flag.to_owned(), text(shim.clone())]);
        }
        arguments
    }

    /// Where the runtimes keep the state of this test's containers.
    fn known_roots(&self, work: &Path) -> Vec<(Runtime, PathBuf)> {
        [Runtime::Runc, Runtime::Crun].map(|runtime| (runtime, work.join(runtime.name()))).into()
    }
}

/// A directory with a short name, as a socket's path has at most 107 bytes.
fn work_directory() -> TempDir {
    tempfile::Builder::new().prefix("gantry-test-").tempdir().expect("make a work directory")
}
