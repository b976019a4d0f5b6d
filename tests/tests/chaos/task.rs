//! Callers of containerd's services in the same server: each makes one task after the other under the same id,
//! which a caller of `types.API` uses as well, and calls again until it is answered.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use gantry_api::containerd::{
    NAMESPACE_METADATA,
    containers::{
        Container, CreateContainerRequest, DeleteContainerRequest, UpdateContainerRequest,
        container::Runtime, containers_client::ContainersClient,
    },
    task_types::{Process, Status as State},
    tasks::{
        CreateTaskRequest, DeleteProcessRequest, DeleteTaskRequest, ExecProcessRequest, GetRequest,
        KillRequest, StartRequest, WaitRequest, WaitResponse, tasks_client::TasksClient,
    },
    type_url,
    types::Mount,
};
use gantry_tests::{PATIENCE, bundle::Bundle};
use prost_types::{Any, FieldMask};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tonic::{Code, Request, Response, Status, transport::Channel};

use crate::{
    kills::{Moment, now},
    life::Shared,
};

/// Of all tasks.
pub(crate) const NAMESPACE: &str = "chaos";

const AGAIN: Duration = Duration::from_millis(25);
const EXEC: &str = "e";

type Tasks = TasksClient<Channel>;

/// The end of a process, and what it was to be.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// Empty for the first one.
    pub(crate) exec: String,
    pub(crate) pid: u32,
    pub(crate) exit: WaitResponse,
    pub(crate) expected: u32,
    pub(crate) begin: Moment,
    pub(crate) end: Moment,
}

/// All that was asked for under one id.
#[derive(Debug, Clone)]
pub(crate) struct TaskHistory {
    pub(crate) id: String,
    pub(crate) ended: Vec<Ended>,
}

/// One caller.
pub(crate) struct TaskWorker {
    shared: Arc<Shared>,
    rng: fastrand::Rng,
    history: TaskHistory,
    config: Value,
    code: u32,
}

fn of<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(NAMESPACE_METADATA, NAMESPACE.parse().expect("ASCII"));
    request
}

fn any(type_url: &str, value: &Value) -> Any {
    Any { type_url: type_url.to_owned(), value: value.to_string().into_bytes() }
}

fn never(_: &Status) -> bool {
    false
}

fn is_gone(error: &Status) -> bool {
    error.code() == Code::NotFound
}

fn is_there(error: &Status) -> bool {
    error.code() == Code::AlreadyExists
}

impl TaskWorker {
    pub(crate) fn new(number: u64, shared: Arc<Shared>, rng: fastrand::Rng) -> Self {
        let id = format!("c{number}");
        let work = &shared.service.work;
        let cgroup = format!("{}/task-{id}", shared.service.cgroup);
        let config = Bundle::new(work.join("none"), "rootfs".as_ref(), &cgroup).config;
        let history = TaskHistory { id, ended: Vec::new() };
        Self { shared, rng, history, config, code: 2 }
    }

    pub(crate) async fn run(mut self) -> TaskHistory {
        let container = || CreateContainerRequest { container: Some(self.container()) };
        let create = |request| {
            let mut containers = self.containers();
            async move { containers.create(request).await }
        };
        self.until_answered("create the container", container(), create, is_there).await;
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.live().await;
        }
        self.live().await;
        let request = DeleteContainerRequest { id: self.history.id.clone() };
        self.containers().delete(of(request)).await.expect("delete the container");
        self.history
    }

    fn containers(&self) -> ContainersClient<Channel> {
        ContainersClient::new(self.shared.service.channel())
    }

    fn container(&self) -> Container {
        Container {
            id: self.history.id.clone(),
            runtime: Some(Runtime { name: "io.containerd.runc.v2".to_owned(), options: None }),
            spec: Some(any(type_url::SPEC, &self.config)),
            ..Container::default()
        }
    }

    /// Calls until there is an answer; none if an error says that an earlier call was heard.
    async fn until_answered<Q: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        what: &str,
        request: Q,
        call: impl Fn(Request<Q>) -> F,
        was_heard: fn(&Status) -> bool,
    ) -> Option<T> {
        let begin = Instant::now();
        loop {
            match call(of(request.clone())).await {
                Ok(answer) => return Some(answer.into_inner()),
                Err(error) if was_heard(&error) => return None,
                Err(error) => {
                    let id = &self.history.id;
                    assert!(begin.elapsed() < PATIENCE, "cannot {what} of task {id}: {error:?}");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn asked<Q: Clone, T, F: Future<Output = Result<Response<T>, Status>>>(
        &self,
        what: &str,
        request: Q,
        call: impl Fn(Tasks, Request<Q>) -> F,
        was_heard: fn(&Status) -> bool,
    ) -> Option<T> {
        let tasks = || TasksClient::new(self.shared.service.channel());
        self.until_answered(what, request, |request| call(tasks(), request), was_heard).await
    }

    async fn live(&mut self) {
        self.code = self.code % 100 + 1;
        let own = self.rng.bool().then(|| self.rng.u64(..800));
        let code = self.code;
        let (script, expected) = match own {
            Some(after) => (format!("sleep 0.{after:03}; exit {code}"), code),
            None => ("exec sleep 1000000".to_owned(), 137),
        };
        self.config["process"]["args"] = json!(["sh", "-c", script]);
        self.describe().await;
        let begin = now();
        self.create().await;
        let pid = self.get("").await.pid;
        // From before the start, by a client that may be cut off.
        let waiting = tokio::spawn({
            let mut tasks: Tasks = TasksClient::new(self.shared.service.channel());
            let request = self.wait_request("");
            async move { tasks.wait(of(request)).await.map(Response::into_inner) }
        });
        self.start("").await;
        if own.is_none() {
            // It has ended already if what was to start it was killed.
            let runs = self.get("").await.status() == State::Running;
            if self.rng.bool() && runs {
                self.exec().await;
            }
            self.kill().await;
        }
        let exit = self.wait("").await;
        if let Ok(Ok(early)) = waiting.await {
            assert_eq!(early, exit, "{}: whoever has waited before the start", self.history.id);
        }
        let seen = self.get("").await;
        assert_eq!(seen.status(), State::Stopped, "{seen:?}");
        assert_eq!((seen.exit_status, seen.exited_at), (exit.exit_status, exit.exited_at));
        self.history.ended.push(Ended {
            exec: String::new(),
            pid,
            exit,
            expected,
            begin,
            end: now(),
        });
        let request = DeleteTaskRequest { container_id: self.history.id.clone() };
        let delete = |mut tasks: Tasks, request| async move { tasks.delete(request).await };
        if let Some(deleted) = self.asked("delete", request, delete, is_gone).await {
            assert_eq!(
                (deleted.exit_status, deleted.exited_at),
                (exit.exit_status, exit.exited_at)
            );
        }
    }

    /// Has the container say what its next task is.
    async fn describe(&self) {
        let request = UpdateContainerRequest {
            container: Some(self.container()),
            update_mask: Some(FieldMask { paths: vec!["spec".to_owned()] }),
        };
        let update = |request| {
            let mut containers = self.containers();
            async move { containers.update(request).await }
        };
        self.until_answered("describe", request, update, never).await;
    }

    async fn create(&self) {
        let rootfs = Mount {
            r#type: "bind".to_owned(),
            source: self.shared.service.work.join("rootfs").to_str().expect("UTF-8").to_owned(),
            options: vec!["rbind".to_owned(), "ro".to_owned()],
            ..Mount::default()
        };
        let container_id = self.history.id.clone();
        let request = CreateTaskRequest {
            container_id,
            rootfs: vec![rootfs],
            ..CreateTaskRequest::default()
        };
        let create = |mut tasks: Tasks, request| async move { tasks.create(request).await };
        self.asked("create", request, create, is_there).await;
    }

    async fn get(&self, exec_id: &str) -> Process {
        let request =
            GetRequest { container_id: self.history.id.clone(), exec_id: exec_id.to_owned() };
        let get = |mut tasks: Tasks, request| async move { tasks.get(request).await };
        let got = self.asked("get", request, get, never).await;
        got.and_then(|got| got.process).expect("a process")
    }

    async fn start(&self, exec_id: &str) {
        let request =
            StartRequest { container_id: self.history.id.clone(), exec_id: exec_id.to_owned() };
        let start = |mut tasks: Tasks, request| async move { tasks.start(request).await };
        let was_started = |error: &Status| error.message().starts_with("cannot start a ");
        self.asked("start", request, start, was_started).await;
    }

    fn wait_request(&self, exec_id: &str) -> WaitRequest {
        WaitRequest { container_id: self.history.id.clone(), exec_id: exec_id.to_owned() }
    }

    async fn wait(&self, exec_id: &str) -> WaitResponse {
        let wait = |mut tasks: Tasks, request| async move { tasks.wait(request).await };
        let exit = self.asked("wait for", self.wait_request(exec_id), wait, never).await;
        exit.expect("an exit")
    }

    async fn kill(&self) {
        let request =
            KillRequest { container_id: self.history.id.clone(), signal: 9, ..<_>::default() };
        let kill = |mut tasks: Tasks, request| async move { tasks.kill(request).await };
        self.asked("kill", request, kill, is_gone).await;
    }

    async fn exec(&mut self) {
        let code = self.code;
        let process = json!({
            "args": ["sh", "-c", format!("sleep 0.1; exit {code}")], "cwd": "/", "env": ["PATH=/bin"],
            "user": {}
        });
        let request = ExecProcessRequest {
            container_id: self.history.id.clone(),
            exec_id: EXEC.to_owned(),
            spec: Some(any(type_url::PROCESS, &process)),
            ..ExecProcessRequest::default()
        };
        let begin = now();
        let exec = |mut tasks: Tasks, request| async move { tasks.exec(request).await };
        self.asked("exec in", request, exec, is_there).await;
        self.start(EXEC).await;
        let exit = self.wait(EXEC).await;
        let seen = self.get(EXEC).await;
        assert_eq!((seen.exit_status, seen.exited_at), (exit.exit_status, exit.exited_at));
        let (exec, pid, end) = (EXEC.to_owned(), seen.pid, now());
        self.history.ended.push(Ended { exec, pid, exit, expected: code, begin, end });
        let request = DeleteProcessRequest {
            container_id: self.history.id.clone(),
            exec_id: EXEC.to_owned(),
        };
        let delete = |mut tasks: Tasks, request| async move { tasks.delete_process(request).await };
        self.asked("delete an exec", request, delete, is_gone).await;
    }
}
