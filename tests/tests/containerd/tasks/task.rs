//! A container with a task, called as clients of containerd call it.

use std::{collections::BTreeMap, fs, path::Path};

use gantry_api::containerd::{
    containers::Container,
    task_types::{Process, Status as State},
    tasks::{
        CreateTaskRequest, DeleteProcessRequest, DeleteResponse, DeleteTaskRequest,
        ExecProcessRequest, GetRequest, KillRequest, StartRequest, WaitRequest, WaitResponse,
    },
    type_url,
    types::Mount,
};
use gantry_tests::{
    bundle::Bundle,
    eventually,
    pipes::{PipePaths, Pipes},
};
use prost_types::Any;
use serde_json::{Value, json};
use tonic::{Request, Status};

use crate::{Bed, any, container, of};

/// A container whose task is to be created. It has pipes for its streams.
#[must_use]
pub(crate) struct NewTask<'a> {
    bed: &'a Bed,
    namespace: String,
    pub(crate) container: Container,
    config: Value,
    pub(crate) request: CreateTaskRequest,
    cgroup: String,
}

/// A task that was created.
pub(crate) struct Task<'a> {
    bed: &'a Bed,
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// Of its first process, on the host.
    pub(crate) pid: u32,
    /// Of its first process.
    pub(crate) pipes: Pipes,
    /// From the root of a hierarchy.
    pub(crate) cgroup: String,
}

/// What is known of a task while its server is away.
pub(crate) struct Kept {
    namespace: String,
    id: String,
    pid: u32,
    cgroup: String,
    paths: PipePaths,
}

impl Kept {
    /// The task of the server that is back. The client opens its pipes again.
    pub(crate) fn again<'a>(&self, bed: &'a Bed) -> Task<'a> {
        Task {
            bed,
            namespace: self.namespace.clone(),
            id: self.id.clone(),
            pid: self.pid,
            pipes: self.paths.clone().open(),
            cgroup: self.cgroup.clone(),
        }
    }
}

/// A request about a namespace.
pub(crate) fn request<T>(namespace: &str, message: T) -> Request<T> {
    of(namespace, message)
}

impl<'a> NewTask<'a> {
    pub(crate) fn new(bed: &'a Bed, namespace: &str, id: &str) -> Self {
        let cgroup = format!("{}/{namespace}-{id}", bed.server.service.cgroup);
        let rootfs = bed.server.work().join("rootfs");
        let config = Bundle::new(bed.server.work().join("bundles"), &rootfs, &cgroup).config;
        let request = CreateTaskRequest { container_id: id.to_owned(), ..Default::default() };
        let namespace = namespace.to_owned();
        Self { bed, namespace, container: container(id), config, request, cgroup }
    }

    /// It runs a shell script.
    pub(crate) fn sh(self, script: &str) -> Self {
        self.config(|config| config["process"]["args"] = json!(["sh", "-c", script]))
    }

    /// Changes the specification.
    pub(crate) fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.config);
        self
    }

    /// What is mounted as its root file system.
    pub(crate) fn rootfs(mut self, mounts: Vec<Mount>) -> Self {
        self.request.rootfs = mounts;
        self.config(|config| config["root"]["path"] = json!("rootfs"))
    }

    /// Its first process has a terminal.
    pub(crate) fn terminal(mut self) -> Self {
        self.request.terminal = true;
        self.config(|config| config["process"]["terminal"] = json!(true))
    }

    /// Creates the container alone. It may be there already.
    pub(crate) async fn create_container(&mut self) -> Result<(), Status> {
        let spec = serde_json::to_vec(&self.config).expect("JSON");
        self.container.spec = Some(any(type_url::SPEC, &spec));
        match self.bed.create(&self.namespace, self.container.clone()).await {
            Err(error) if error.code() != tonic::Code::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Creates container and task. The container may be there already.
    pub(crate) async fn create(mut self) -> Result<Task<'a>, Status> {
        self.create_container().await?;
        let pipes = self.pipes();
        let created = self.bed.tasks().create(of(&self.namespace, self.request.clone())).await?;
        let created = created.into_inner();
        assert_eq!(created.container_id, self.container.id);
        let Self { bed, namespace, container, cgroup, .. } = self;
        Ok(Task { bed, namespace, id: container.id, pid: created.pid, pipes, cgroup })
    }

    fn pipes(&mut self) -> Pipes {
        let dir = self.bed.server.work().join("pipes").join(&self.namespace);
        let paths = PipePaths::make(&dir, &self.container.id);
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        self.request.stdin = text(&paths.stdin);
        self.request.stdout = text(&paths.stdout);
        if !self.request.terminal {
            self.request.stderr = text(&paths.stderr);
        }
        paths.open()
    }
}

impl Task<'_> {
    fn of<T>(&self, message: T) -> Request<T> {
        of(&self.namespace, message)
    }

    pub(crate) fn kept(&self) -> Kept {
        Kept {
            namespace: self.namespace.clone(),
            id: self.id.clone(),
            pid: self.pid,
            cgroup: self.cgroup.clone(),
            paths: self.pipes.paths.clone(),
        }
    }

    fn names(&self, exec: &str) -> (String, String) {
        (self.id.clone(), exec.to_owned())
    }

    /// Starts the first process, or an added one; its pid.
    pub(crate) async fn start(&self, exec: &str) -> Result<u32, Status> {
        let (container_id, exec_id) = self.names(exec);
        let request = StartRequest { container_id, exec_id };
        Ok(self.bed.tasks().start(self.of(request)).await?.into_inner().pid)
    }

    pub(crate) async fn wait(&self, exec: &str) -> Result<WaitResponse, Status> {
        self.waiting(exec).await
    }

    /// [`Self::wait`], for another task of the test.
    pub(crate) fn waiting(
        &self,
        exec: &str,
    ) -> impl Future<Output = Result<WaitResponse, Status>> + Send + use<> {
        let (container_id, exec_id) = self.names(exec);
        let request = self.of(WaitRequest { container_id, exec_id });
        let mut client = self.bed.tasks();
        async move { client.wait(request).await.map(tonic::Response::into_inner) }
    }

    pub(crate) async fn get(&self, exec: &str) -> Result<Process, Status> {
        let (container_id, exec_id) = self.names(exec);
        let got = self.bed.tasks().get(self.of(GetRequest { container_id, exec_id })).await?;
        Ok(got.into_inner().process.expect("a process"))
    }

    pub(crate) async fn state(&self, exec: &str) -> State {
        self.get(exec).await.expect("Get").status()
    }

    pub(crate) async fn kill(&self, exec: &str, signal: u32) -> Result<(), Status> {
        let (container_id, exec_id) = self.names(exec);
        let request = KillRequest { container_id, exec_id, signal, all: false };
        self.bed.tasks().kill(self.of(request)).await.map(drop)
    }

    pub(crate) async fn kill_all(&self, signal: u32) -> Result<(), Status> {
        let (container_id, exec_id) = self.names("");
        let request = KillRequest { container_id, exec_id, signal, all: true };
        self.bed.tasks().kill(self.of(request)).await.map(drop)
    }

    pub(crate) async fn delete(&self) -> Result<DeleteResponse, Status> {
        let request = DeleteTaskRequest { container_id: self.id.clone() };
        Ok(self.bed.tasks().delete(self.of(request)).await?.into_inner())
    }

    pub(crate) async fn delete_exec(&self, exec: &str) -> Result<DeleteResponse, Status> {
        let (container_id, exec_id) = self.names(exec);
        let request = DeleteProcessRequest { container_id, exec_id };
        Ok(self.bed.tasks().delete_process(self.of(request)).await?.into_inner())
    }

    /// Kills it, waits for its end, and deletes it.
    pub(crate) async fn end(self) {
        // It may have ended.
        let _ = self.kill_all(9).await;
        self.wait("").await.expect("Wait");
        self.delete().await.expect("Delete");
    }

    /// Adds a process that runs a shell script.
    pub(crate) async fn exec(&self, exec: &str, script: &str) -> Result<Pipes, Status> {
        self.exec_with(exec, json!({ "args": ["sh", "-c", script] }), |_| {}).await
    }

    /// Adds a process. What a process needs beside what is given is added to it.
    pub(crate) async fn exec_with(
        &self,
        exec: &str,
        process: Value,
        change: impl FnOnce(&mut ExecProcessRequest),
    ) -> Result<Pipes, Status> {
        let mut spec = json!({ "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"], "cwd": "/" });
        for (name, value) in process.as_object().expect("an object") {
            spec[name] = value.clone();
        }
        let dir = self.bed.server.work().join("pipes").join(&self.namespace).join(&self.id);
        let paths = PipePaths::make(&dir, "exec");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let mut request = ExecProcessRequest {
            container_id: self.id.clone(),
            exec_id: exec.to_owned(),
            stdin: text(&paths.stdin),
            stdout: text(&paths.stdout),
            stderr: text(&paths.stderr),
            terminal: false,
            spec: Some(process_any(&spec)),
        };
        change(&mut request);
        let pipes = paths.open();
        self.bed.tasks().exec(self.of(request)).await?;
        Ok(pipes)
    }
}

fn process_any(process: &Value) -> Any {
    any(type_url::PROCESS, process.to_string().as_bytes())
}

/// Ends the test: nothing of any task is left.
pub(crate) async fn finish(bed: Bed) {
    let state = bed.server.state_dir();
    let left = || {
        let mut left = BTreeMap::new();
        for kept in ["containers", "io.containerd.runtime.v2.task", "runc"] {
            for namespace in entries(&state.join(kept)) {
                let ids = entries(&state.join(kept).join(&namespace));
                if !ids.is_empty() {
                    left.insert(format!("{kept}/{namespace}"), ids);
                }
            }
        }
        left
    };
    eventually(&format!("nothing is left of {:?}", left()), || left().is_empty()).await;
    bed.server.finish().await;
}

fn entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
