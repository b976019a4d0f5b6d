//! A container from the caller's side.

use std::{path::PathBuf, sync::Arc};

use gantry_api::{
    INIT, event_type,
    types::{self, CreateContainerRequest, UpdateContainerRequest},
};
use serde_json::{Value, json};
use tonic::{Extensions, Request, Status, metadata::MetadataMap};

use crate::{
    Runtime,
    bundle::Bundle,
    pipes::PipePaths,
    process::{NewProcess, Process},
    service::Service,
};

/// A container that was created.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// Its bundle.
    pub bundle: PathBuf,
    /// Its cgroup, from the root of a hierarchy.
    pub cgroup: String,
    /// Its first process.
    pub init: Process,
    service: Arc<Service>,
}

impl Container {
    /// A further process, to be started.
    pub fn exec(&self, process: &str) -> NewProcess {
        NewProcess::new(Arc::clone(&self.service), &self.id, process)
    }

    /// What the server says about it.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn state(&self) -> Result<types::Container, Status> {
        self.service.state(&self.id).await
    }

    /// Pauses it and waits for the event.
    pub async fn pause(&self) {
        let position = self.service.events.position();
        self.set_status("paused").await.expect("pause");
        self.service.events.wait_type(position, &self.id, event_type::PAUSE).await;
    }

    /// Resumes it and waits for the event.
    pub async fn resume(&self) {
        let position = self.service.events.position();
        self.set_status("running").await.expect("resume");
        self.service.events.wait_type(position, &self.id, event_type::RESUME).await;
    }

    /// Asks for a status.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn set_status(&self, status: &str) -> Result<(), Status> {
        let status = status.to_owned();
        self.update(UpdateContainerRequest { status, ..UpdateContainerRequest::default() }).await
    }

    /// Updates it.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn update(&self, request: UpdateContainerRequest) -> Result<(), Status> {
        let request = UpdateContainerRequest { id: self.id.clone(), ..request };
        self.service.api().update_container(request).await.map(drop)
    }
}

/// A container that is to be created.
#[derive(Debug)]
#[must_use]
pub struct NewContainer {
    service: Arc<Service>,
    /// What is asked of the server.
    request: CreateContainerRequest,
    metadata: MetadataMap,
    bundle: Bundle,
    cgroup: String,
    with_pipes: bool,
}

impl NewContainer {
    pub(crate) fn new(service: Arc<Service>, id: &str) -> Self {
        let id = format!("{}{id}", service.prefix);
        let directory = service.work.join("bundles").join(&id);
        let cgroup = format!("{}/{id}", service.cgroup);
        let bundle = Bundle::new(directory, &service.work.join("rootfs"), &cgroup);
        let request = CreateContainerRequest {
            bundle_path: bundle.directory.to_str().expect("UTF-8").to_owned(),
            no_pivot_root: std::env::var_os("GANTRY_TEST_NO_PIVOT").is_some(),
            id,
            ..CreateContainerRequest::default()
        };
        let metadata = MetadataMap::new();
        Self { service, request, metadata, bundle, cgroup, with_pipes: true }
    }

    /// It runs a shell script.
    pub fn sh(self, script: &str) -> Self {
        self.args(&["sh", "-c", script])
    }

    /// It runs this program.
    pub fn args(self, args: &[&str]) -> Self {
        self.config(|config| config["process"]["args"] = json!(args))
    }

    /// It has a terminal.
    pub fn terminal(self) -> Self {
        self.config(|config| config["process"]["terminal"] = json!(true))
    }

    /// Changes config.json.
    pub fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.bundle.config);
        self
    }

    /// It has a namespace of this kind of its own.
    pub fn namespace(mut self, kind: &str) -> Self {
        self.bundle.add_namespace(kind);
        self
    }

    /// Changes the request.
    pub fn request(mut self, change: impl FnOnce(&mut CreateContainerRequest)) -> Self {
        change(&mut self.request);
        self
    }

    /// The request has this metadata.
    ///
    /// # Panics
    /// When the value cannot be sent.
    pub fn metadata(mut self, name: &'static str, value: &str) -> Self {
        self.metadata.insert(name, value.parse().expect("a value"));
        self
    }

    /// It runs on this runtime instead of the server's own.
    pub fn runtime(mut self, runtime: Runtime) -> Self {
        self.request.runtime = runtime.name().to_owned();
        self.request.runtime_args = runtime.arguments(&self.service.runtime_root(runtime));
        self
    }

    /// Its stdio is /dev/null, unless the request says otherwise.
    pub fn without_pipes(mut self) -> Self {
        self.with_pipes = false;
        self
    }

    /// Writes the bundle only, for a caller of its own kind, and returns its directory.
    #[must_use]
    pub fn bundle(self) -> PathBuf {
        self.bundle.write();
        self.bundle.directory
    }

    /// Writes the bundle, makes the pipes, and asks for the container.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn create(mut self) -> Result<Container, Status> {
        self.bundle.write();
        let mut pipes = None;
        if self.with_pipes {
            let directory = self.service.work.join("pipes").join(&self.request.id);
            let paths = PipePaths::make(&directory, INIT);
            self.request.stdin = paths.stdin.to_str().expect("UTF-8").to_owned();
            self.request.stdout = paths.stdout.to_str().expect("UTF-8").to_owned();
            if self.bundle.config["process"]["terminal"] != true {
                self.request.stderr = paths.stderr.to_str().expect("UTF-8").to_owned();
            }
            pipes = Some(paths.open());
        }
        let position = self.service.events.position();
        let id = self.request.id.clone();
        let request = Request::from_parts(self.metadata, Extensions::default(), self.request);
        let response = self.service.api().create_container(request).await?.into_inner();
        let container = response.container.expect("the answer has the container");
        let init = container.processes.first().expect("the container has a process");
        assert_eq!((container.id.as_str(), init.pid.as_str()), (id.as_str(), INIT));
        let init = Process {
            container: id.clone(),
            id: INIT.to_owned(),
            system_pid: init.system_pid,
            pipes,
            service: Arc::clone(&self.service),
            position,
        };
        let (bundle, cgroup, service) = (self.bundle.directory, self.cgroup, self.service);
        Ok(Container { id, bundle, cgroup, init, service })
    }
}
