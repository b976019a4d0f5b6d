//! A process of a container, init or exec, from the caller's side.

use std::{sync::Arc, time::Duration};

use gantry_api::{
    CONSOLE_SIZE_METADATA,
    types::{AddProcessRequest, SignalRequest, UpdateProcessRequest, User},
};
use tonic::{Request, Status};

use crate::{
    eventually,
    pipes::{PipePaths, Pipes},
    processes,
    service::Service,
};

/// A process that was started.
#[derive(Debug)]
pub struct Process {
    /// Id of its container.
    pub container: String,
    /// Its own id.
    pub id: String,
    /// Its pid on the host.
    pub system_pid: u32,
    /// The caller's ends of its pipes; without pipes it has /dev/null.
    pub pipes: Option<Pipes>,
    pub(crate) service: Arc<Service>,
    /// Its events are behind this position.
    pub(crate) position: usize,
}

impl Process {
    /// The pipes.
    ///
    /// # Panics
    /// When it has none.
    pub fn pipes(&mut self) -> &mut Pipes {
        self.pipes.as_mut().expect("a process with pipes")
    }

    /// Waits for its exit event and returns the status.
    pub async fn exit(&self) -> u32 {
        self.service.events.wait_exit(self.position, &self.container, &self.id).await
    }

    /// Waits until it runs this program. A runtime's start ends when the process is past its last
    /// check, an execve(2) away from that: it may still have the runtime's threads, signal handlers and
    /// open files.
    pub async fn runs(&self, command: &str) {
        let what = format!("{} runs {command:?}", self.id);
        let is_so = || processes::command(self.system_pid).as_deref() == Some(command);
        eventually(&what, is_so).await;
    }

    /// Whether its exit event has been seen.
    #[must_use]
    pub fn has_exited(&self) -> bool {
        let events = self.service.events.all();
        let mut own = events.iter().skip(self.position);
        own.any(|event| crate::events::is_exit(event, &self.container, &self.id))
    }

    /// Sends a signal through the server.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn signal(&self, signal: u32) -> Result<(), Status> {
        let request = SignalRequest { id: self.container.clone(), pid: self.id.clone(), signal };
        self.service.api().signal(request).await.map(drop)
    }

    /// Kills it and waits for the exit event.
    pub async fn kill(&self) -> u32 {
        self.signal(9).await.expect("signal a living process");
        self.exit().await
    }

    /// Ends its stdin.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn close_stdin(&self) -> Result<(), Status> {
        let close_stdin = true;
        self.update(UpdateProcessRequest { close_stdin, ..UpdateProcessRequest::default() }).await
    }

    /// Changes the size of its terminal.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn resize(&self, width: u32, height: u32) -> Result<(), Status> {
        self.update(UpdateProcessRequest { width, height, ..UpdateProcessRequest::default() }).await
    }

    async fn update(&self, request: UpdateProcessRequest) -> Result<(), Status> {
        let (id, pid) = (self.container.clone(), self.id.clone());
        let request = UpdateProcessRequest { id, pid, ..request };
        self.service.api().update_process(request).await.map(drop)
    }

    /// Pid on the host of the shim that looks after it.
    #[must_use]
    pub fn shim(&self) -> Option<u32> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.system_pid)).ok()?;
        // The name in parentheses may hold anything; the fields behind it are state and ppid.
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
    }

    /// Whether the host's process ends soon.
    pub async fn ends_within(&self, time: Duration) -> bool {
        processes::ends_within(self.system_pid, time).await
    }
}

/// A process that is to be added to a container.
#[derive(Debug)]
#[must_use]
pub struct NewProcess {
    service: Arc<Service>,
    request: AddProcessRequest,
    with_pipes: bool,
    console_size: Option<(u32, u32)>,
}

impl NewProcess {
    pub(crate) fn new(service: Arc<Service>, container: &str, id: &str) -> Self {
        let request = AddProcessRequest {
            id: container.to_owned(),
            pid: id.to_owned(),
            user: Some(User::default()),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            ..AddProcessRequest::default()
        };
        Self { service, request, with_pipes: true, console_size: None }
    }

    /// It runs a shell script.
    pub fn sh(self, script: &str) -> Self {
        self.args(&["sh", "-c", script])
    }

    /// It runs this program.
    pub fn args(mut self, args: &[&str]) -> Self {
        self.request.args = args.iter().map(ToString::to_string).collect();
        self
    }

    /// Its stdio is /dev/null.
    pub fn without_pipes(mut self) -> Self {
        self.with_pipes = false;
        self
    }

    /// It has a terminal, of this width and height from its first byte on, or of a size that the
    /// server chooses.
    pub fn terminal(mut self, size: Option<(u32, u32)>) -> Self {
        self.request.terminal = true;
        self.console_size = size;
        self
    }

    /// Changes the request.
    pub fn request(mut self, change: impl FnOnce(&mut AddProcessRequest)) -> Self {
        change(&mut self.request);
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// What the server answers.
    pub async fn start(mut self) -> Result<Process, Status> {
        let mut pipes = None;
        if self.with_pipes {
            let directory = self.service.work.join("pipes").join(&self.request.id);
            let paths = PipePaths::make(&directory, &self.request.pid);
            self.request.stdin = paths.stdin.to_str().expect("UTF-8").to_owned();
            self.request.stdout = paths.stdout.to_str().expect("UTF-8").to_owned();
            if !self.request.terminal {
                self.request.stderr = paths.stderr.to_str().expect("UTF-8").to_owned();
            }
            pipes = Some(paths.open());
        }
        let position = self.service.events.position();
        let (container, id) = (self.request.id.clone(), self.request.pid.clone());
        let mut request = Request::new(self.request);
        if let Some((width, height)) = self.console_size {
            let size = format!("{width}x{height}").parse().expect("ASCII");
            request.metadata_mut().insert(CONSOLE_SIZE_METADATA, size);
        }
        let response = self.service.api().add_process(request).await?.into_inner();
        let service = self.service;
        Ok(Process { container, id, system_pid: response.system_pid, pipes, service, position })
    }
}
