//! Tasks of containerd's API: the processes of a container in a namespace.

use std::time::Duration;

use gantry_api::containerd::{
    task_types::Process,
    tasks::{
        CloseIoRequest, CreateTaskRequest, DeleteProcessRequest, DeleteTaskRequest,
        ExecProcessRequest, GetRequest, KillRequest, ListPidsRequest, PauseTaskRequest,
        ResizePtyRequest, ResumeTaskRequest, StartRequest, WaitRequest, tasks_client::TasksClient,
    },
    types::Mount,
};
use gantry_client::{Client, ConsoleSize, Signal};
use prost_types::Any;
use tokio::time::sleep;
use tonic::{Code, Response, Status, transport::Channel};

use crate::{
    containerd::{about, failed, is_away},
    failure::Failure,
    fifos::Paths,
};

/// The status of a process that ended unobserved.
const UNKNOWN: u32 = gantry_api::EXIT_STATUS_UNKNOWN;

/// Pauses between attempts to reach a server that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The task of a container, or one of its further processes.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    channel: Channel,
    namespace: String,
    container: String,
    /// Id of a further process; empty for the first one.
    process: String,
}

impl Task {
    /// A handle; the server is not asked.
    pub(crate) fn of(client: &Client, namespace: &str, container: &str) -> Task {
        Task {
            channel: client.channel(),
            namespace: namespace.to_owned(),
            container: container.to_owned(),
            process: String::new(),
        }
    }

    fn client(&self) -> TasksClient<Channel> {
        TasksClient::new(self.channel.clone())
    }

    fn ids(&self) -> (String, String) {
        (self.container.clone(), self.process.clone())
    }

    /// A further process of the same container.
    pub(crate) fn further(&self, process: &str) -> Task {
        Task { process: process.to_owned(), ..self.clone() }
    }

    /// Has the runtime make it. Its first process waits to be started.
    pub(crate) async fn create(
        &self,
        rootfs: Vec<Mount>,
        streams: &Paths,
        terminal: bool,
    ) -> Result<(), Status> {
        let request = CreateTaskRequest {
            container_id: self.container.clone(),
            rootfs,
            stdin: streams.stdin.clone(),
            stdout: streams.stdout.clone(),
            stderr: streams.stderr.clone(),
            terminal,
            ..CreateTaskRequest::default()
        };
        self.client().create(self.about(request)?).await.map(drop)
    }

    /// Adds it to its container, with the `process` of a configuration. It waits to be started.
    pub(crate) async fn exec(
        &self,
        spec: Any,
        streams: &Paths,
        terminal: bool,
    ) -> Result<(), Status> {
        let (container_id, exec_id) = self.ids();
        let Paths { stdin, stdout, stderr } = streams.clone();
        let spec = Some(spec);
        let request =
            ExecProcessRequest { container_id, exec_id, spec, terminal, stdin, stdout, stderr };
        self.client().exec(self.about(request)?).await.map(drop)
    }

    /// Pids of all processes of the container; none if nothing runs in it.
    pub(crate) async fn pids(&self) -> Result<Vec<u32>, Failure> {
        let request = ListPidsRequest { container_id: self.container.clone() };
        match self.client().list_pids(about(&self.namespace, request)?).await {
            Ok(answer) => Ok(answer.into_inner().processes.iter().map(|it| it.pid).collect()),
            Err(status) if is_gone(&status) => Ok(Vec::new()),
            Err(status) => Err(self.failed("list the processes of", &status)),
        }
    }

    /// Freezes all processes of the container.
    pub(crate) async fn pause(&self) -> Result<(), Failure> {
        let request = PauseTaskRequest { container_id: self.container.clone() };
        let paused = self.client().pause(about(&self.namespace, request)?).await;
        paused.map(drop).map_err(|status| self.failed("pause", &status))
    }

    /// Thaws all processes of the container.
    pub(crate) async fn resume(&self) -> Result<(), Failure> {
        let request = ResumeTaskRequest { container_id: self.container.clone() };
        let resumed = self.client().resume(about(&self.namespace, request)?).await;
        resumed.map(drop).map_err(|status| self.failed("resume", &status))
    }

    pub(crate) async fn start(&self) -> Result<(), Status> {
        let (container_id, exec_id) = self.ids();
        self.client().start(self.about(StartRequest { container_id, exec_id })?).await.map(drop)
    }

    /// What the server knows of it; none if there is no such process.
    pub(crate) async fn get(&self) -> Result<Option<Process>, Failure> {
        let (container_id, exec_id) = self.ids();
        let request = about(&self.namespace, GetRequest { container_id, exec_id })?;
        match self.client().get(request).await {
            Ok(answer) => Ok(answer.into_inner().process),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.failed("find", &status)),
        }
    }

    /// Waits for its end and deletes it, after which nobody writes to its pipes; its exit status. A server that is away
    /// is waited for.
    pub(crate) async fn end(&self) -> Result<u32, Failure> {
        let status = self.wait_for_end().await?;
        self.delete().await?;
        Ok(status.unwrap_or(UNKNOWN))
    }

    /// Waits for its end; its exit status, or none if there is no such process.
    pub(crate) async fn wait_for_end(&self) -> Result<Option<u32>, Failure> {
        let waited = self.insist(|this| async move { this.wait().await }).await;
        waited.map_err(|status| self.failed("wait for", &status))
    }

    async fn wait(&self) -> Result<u32, Status> {
        let (container_id, exec_id) = self.ids();
        let request = self.about(WaitRequest { container_id, exec_id })?;
        self.client().wait(request).await.map(|answer| answer.into_inner().exit_status)
    }

    /// Deletes what has ended, or was not started; one that is not there any more is no error.
    pub(crate) async fn delete(&self) -> Result<(), Failure> {
        let deleted = self.insist(|this| async move { this.delete_once().await }).await;
        deleted.map(drop).map_err(|status| self.failed("delete", &status))
    }

    async fn delete_once(&self) -> Result<(), Status> {
        let (container_id, exec_id) = self.ids();
        if exec_id.is_empty() {
            let request = self.about(DeleteTaskRequest { container_id })?;
            return self.client().delete(request).await.map(drop);
        }
        let request = self.about(DeleteProcessRequest { container_id, exec_id })?;
        self.client().delete_process(request).await.map(drop)
    }

    /// Kills it, if it is there, and deletes it.
    pub(crate) async fn destroy(&self) -> Result<(), Failure> {
        self.signal(Signal::KILL).await?;
        self.end().await.map(drop)
    }

    /// Deletes it, whether it was started or not; kills it if need be.
    pub(crate) async fn discard(&self) -> Result<(), Failure> {
        match self.delete().await {
            Ok(()) => Ok(()),
            // It runs: the start was called off, but the server had begun with it.
            Err(_) => self.destroy().await,
        }
    }

    /// Sends it a signal; one that has ended is no error.
    pub(crate) async fn signal(&self, signal: Signal) -> Result<(), Failure> {
        match self.kill(signal).await? {
            Err(status) if !is_gone(&status) => Err(self.failed(&what(signal), &status)),
            _ => Ok(()),
        }
    }

    /// Sends it a signal; one that has ended is an error.
    pub(crate) async fn signal_living(&self, signal: Signal) -> Result<(), Failure> {
        self.kill(signal).await?.map_err(|status| self.failed(&what(signal), &status))
    }

    async fn kill(&self, signal: Signal) -> Result<Result<(), Status>, Failure> {
        let (container_id, exec_id) = self.ids();
        let request = KillRequest { container_id, exec_id, signal: signal.number(), all: false };
        let sent = self.client().kill(about(&self.namespace, request)?).await;
        Ok(sent.map(drop))
    }

    /// Sets its terminal's size; one that has ended is no error.
    pub(crate) async fn resize(&self, size: ConsoleSize) -> Result<(), Failure> {
        let (container_id, exec_id) = self.ids();
        let ConsoleSize { width, height } = size;
        let request = ResizePtyRequest { container_id, exec_id, width, height };
        let resized = self.client().resize_pty(about(&self.namespace, request)?).await;
        self.unless_gone(resized, "resize the terminal of")
    }

    /// Ends its input after everything written so far; one that has ended is no error.
    pub(crate) async fn close_stdin(&self) -> Result<(), Failure> {
        let (container_id, exec_id) = self.ids();
        let request = CloseIoRequest { container_id, exec_id, stdin: true };
        let closed = self.client().close_io(about(&self.namespace, request)?).await;
        self.unless_gone(closed, "close stdin of")
    }

    fn unless_gone<T>(
        &self,
        answer: Result<Response<T>, Status>,
        what: &str,
    ) -> Result<(), Failure> {
        match answer {
            Err(status) if !is_gone(&status) => Err(self.failed(what, &status)),
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &str, status: &Status) -> Failure {
        failed(&format!("{what} {}", self.name()), status)
    }

    fn name(&self) -> String {
        match self.process.is_empty() {
            true => format!("{}/{}", self.namespace, self.container),
            false => format!("{}/{}/{}", self.namespace, self.container, self.process),
        }
    }

    fn about<T>(&self, message: T) -> Result<tonic::Request<T>, Status> {
        about(&self.namespace, message)
            .map_err(|_| Status::invalid_argument("only ASCII can be in a namespace"))
    }

    /// Asks until a server has answered; none if the process is gone.
    async fn insist<'a, T, F>(&'a self, ask: impl Fn(&'a Task) -> F) -> Result<Option<T>, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            match ask(self).await {
                Ok(answer) => return Ok(Some(answer)),
                Err(status) if is_gone(&status) => return Ok(None),
                Err(status) if !is_away(&status) => return Err(status),
                Err(_) => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn what(signal: Signal) -> String {
    format!("send {signal} to")
}

/// Whether there is no such process any more.
fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound || status.message().contains("process already finished")
}
