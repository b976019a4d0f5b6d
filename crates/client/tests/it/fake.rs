//! A server of the contract without containers: it stores what it is sent, and answers as the test sets it up.

use std::{
    collections::HashMap,
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, SystemTime},
};

use gantry_api::v1::container_service_server::ContainerServiceServer;
use gantry_client::{Client, Timestamp, types};
use tokio::{
    net::UnixListener,
    runtime::{Builder, Runtime},
    sync::{Notify, broadcast},
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{BroadcastStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, transport::Server};
use types::api_server::{Api, ApiServer};

use crate::monitors::Monitors;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

type Answer<T> = Result<Response<T>, Status>;

/// What happens when a container is to be created, after it was noted in the log.
#[derive(Debug, Clone)]
pub(crate) enum Creation {
    /// It runs.
    Succeeds,
    /// It runs and exits with this status, all before the answer.
    ExitsAtOnce(u32),
    /// It is not created; the answer is this.
    Fails(Status),
    /// The connection breaks, once; with `true` it runs all the same.
    Breaks(bool),
    /// It runs, but the answer is this.
    SucceedsUnnoticed(Status),
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) containers: Mutex<HashMap<String, types::Container>>,
    pub(crate) journal: Mutex<Vec<types::Event>>,
    /// Exits that are known by `gantry.v1` only, as `web/init`.
    pub(crate) remembered: Mutex<HashMap<String, u32>>,
    pub(crate) creation: Mutex<Creation>,
    /// What a signal does to a container: its status, or nothing.
    pub(crate) deadly: Mutex<HashMap<u32, u32>>,
    /// Somebody has to cut the connections now.
    pub(crate) broken: Notify,
    /// The idempotency keys of creations.
    pub(crate) keys: Mutex<Vec<String>>,
    /// What was done, in order.
    log: Mutex<Vec<String>>,
    live: broadcast::Sender<types::Event>,
}

/// A server on a socket in a directory of its own.
pub(crate) struct Fake {
    pub(crate) inner: Arc<Inner>,
    pub(crate) dir: tempfile::TempDir,
    /// Its own, so that its end is the end of every connection.
    runtime: Option<Runtime>,
    /// It has `gantry.v1`.
    has_monitors: bool,
}

impl Fake {
    /// One without `gantry.v1`.
    pub(crate) async fn start() -> Fake {
        Fake::start_as(false)
    }

    pub(crate) async fn start_with_monitors() -> Fake {
        Fake::start_as(true)
    }

    fn start_as(has_monitors: bool) -> Fake {
        let inner = Arc::new(Inner {
            containers: Mutex::default(),
            journal: Mutex::default(),
            remembered: Mutex::default(),
            creation: Mutex::new(Creation::Succeeds),
            deadly: Mutex::default(),
            broken: Notify::new(),
            keys: Mutex::default(),
            log: Mutex::default(),
            live: broadcast::channel(64).0,
        });
        let dir = tempfile::tempdir().unwrap();
        let mut fake = Fake { inner, dir, runtime: None, has_monitors };
        fake.serve();
        fake
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.dir.path().join("sock"), PATIENCE).await.unwrap()
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.path().join("bundle")
    }

    /// Cuts every connection, and returns when no call is answered any more; containers, journal and
    /// log stay.
    pub(crate) fn stop(&mut self) {
        let runtime = self.runtime.take().unwrap();
        // Not here: a test's own runtime does not let its thread wait for another one's end.
        thread::scope(|scope| scope.spawn(|| runtime.shutdown_timeout(PATIENCE)).join()).unwrap();
        std::fs::remove_file(self.dir.path().join("sock")).unwrap();
    }

    pub(crate) fn serve(&mut self) {
        let listener =
            std::os::unix::net::UnixListener::bind(self.dir.path().join("sock")).unwrap();
        listener.set_nonblocking(true).unwrap();
        let api = ApiServer::new(Service(Arc::clone(&self.inner)));
        let monitors = self
            .has_monitors
            .then(|| ContainerServiceServer::new(Monitors(Arc::clone(&self.inner))));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.spawn(async move {
            let incoming = UnixListenerStream::new(UnixListener::from_std(listener).unwrap());
            let server = Server::builder().add_service(api).add_optional_service(monitors);
            server.serve_with_incoming(incoming).await.unwrap();
        });
        self.runtime = Some(runtime);
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.inner.log.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Inner {
    pub(crate) fn note(&self, what: impl Into<String>) {
        self.log.lock().unwrap().push(what.into());
    }

    /// A container that runs, with only its first process.
    pub(crate) fn add(&self, id: &str, bundle: &str, init: types::Process) {
        let container = types::Container {
            id: id.into(),
            bundle_path: bundle.into(),
            status: "running".into(),
            processes: vec![types::Process { pid: "init".into(), ..init }],
            ..types::Container::default()
        };
        self.containers.lock().unwrap().insert(id.into(), container);
    }

    /// An event of a container (`web`) or of a process in it (`web/init`).
    pub(crate) fn publish(&self, kind: &str, whose: &str, status: u32) {
        let (id, pid) = whose.split_once('/').unwrap_or((whose, ""));
        let timestamp = Some(Timestamp::from(SystemTime::now()));
        let (r#type, id, pid) = (kind.into(), id.into(), pid.into());
        let event = types::Event { r#type, id, status, pid, timestamp };
        let mut journal = self.journal.lock().unwrap();
        journal.push(event.clone());
        let _ = self.live.send(event);
    }

    /// The container is gone, and then its exit is published.
    pub(crate) fn exit(&self, id: &str, status: u32) {
        self.containers.lock().unwrap().remove(id);
        self.publish("exit", &format!("{id}/init"), status);
    }

    fn start(&self, request: &types::CreateContainerRequest) {
        let init = types::Process {
            system_pid: 42,
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            ..types::Process::default()
        };
        self.add(&request.id, &request.bundle_path, init);
        self.publish("start-container", &format!("{}/", request.id), 0);
    }

    fn find(&self, id: &str) -> Result<types::Container, Status> {
        let found = self.containers.lock().unwrap().get(id).cloned();
        found.ok_or_else(|| Status::not_found(format!("container not found: {id}")))
    }
}

struct Service(Arc<Inner>);

type Events = Pin<Box<dyn Stream<Item = Result<types::Event, Status>> + Send>>;

#[tonic::async_trait]
impl Api for Service {
    type EventsStream = Events;

    async fn get_server_version(
        &self,
        _: Request<types::GetServerVersionRequest>,
    ) -> Answer<types::GetServerVersionResponse> {
        let revision = "fake".to_owned();
        Ok(Response::new(types::GetServerVersionResponse {
            major: 1,
            minor: 2,
            patch: 3,
            revision,
        }))
    }

    async fn create_container(
        &self,
        request: Request<types::CreateContainerRequest>,
    ) -> Answer<types::CreateContainerResponse> {
        let key = request.metadata().get("gantry-idempotency-key").unwrap();
        self.0.keys.lock().unwrap().push(key.to_str().unwrap().to_owned());
        let request = request.into_inner();
        self.0.note(format!("create {}", request.id));
        let creation = self.0.creation.lock().unwrap().clone();
        match creation {
            Creation::Fails(status) => return Err(status),
            Creation::Breaks(runs) => {
                *self.0.creation.lock().unwrap() = Creation::Succeeds;
                if runs {
                    self.0.start(&request);
                }
                self.0.broken.notify_one();
                return std::future::pending().await;
            }
            _ => {}
        }
        self.0.start(&request);
        let container = Some(self.0.find(&request.id)?);
        match creation {
            Creation::ExitsAtOnce(status) => self.0.exit(&request.id, status),
            Creation::SucceedsUnnoticed(status) => return Err(status),
            _ => {}
        }
        // Whatever the client does too early would come in this time.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.0.note("created");
        Ok(Response::new(types::CreateContainerResponse { container }))
    }

    async fn update_container(
        &self,
        request: Request<types::UpdateContainerRequest>,
    ) -> Answer<types::UpdateContainerResponse> {
        let request = request.into_inner();
        self.0.find(&request.id)?;
        self.0.note(format!("set {} {}", request.id, request.status));
        let kind = if request.status == "paused" { "pause" } else { "resume" };
        if let Some(c) = self.0.containers.lock().unwrap().get_mut(&request.id) {
            c.status = request.status;
        }
        self.0.publish(kind, &request.id, 0);
        Ok(Response::new(types::UpdateContainerResponse {}))
    }

    async fn signal(
        &self,
        request: Request<types::SignalRequest>,
    ) -> Answer<types::SignalResponse> {
        let types::SignalRequest { id, pid, signal } = request.into_inner();
        self.0.find(&id)?;
        self.0.note(format!("signal {id}/{pid} {signal}"));
        let status = self.0.deadly.lock().unwrap().get(&signal).copied();
        if let Some(status) = status {
            self.0.exit(&id, status);
        }
        Ok(Response::new(types::SignalResponse {}))
    }

    async fn update_process(
        &self,
        request: Request<types::UpdateProcessRequest>,
    ) -> Answer<types::UpdateProcessResponse> {
        let request = request.into_inner();
        self.0.find(&request.id)?;
        self.0.note(format!("close {} of {}/{}", request.close_stdin, request.id, request.pid));
        Ok(Response::new(types::UpdateProcessResponse {}))
    }

    async fn add_process(
        &self,
        request: Request<types::AddProcessRequest>,
    ) -> Answer<types::AddProcessResponse> {
        let size = request.metadata().get("gantry-console-size").cloned();
        let request = request.into_inner();
        self.0.find(&request.id)?;
        self.0.note(format!("exec {:?} {:?} {size:?}", request.args, request.env));
        let process = format!("{}/{}", request.id, request.pid);
        self.0.publish("start-process", &process, 0);
        self.0.publish("exit", &process, 9);
        Ok(Response::new(types::AddProcessResponse { system_pid: 43 }))
    }

    async fn create_checkpoint(
        &self,
        _: Request<types::CreateCheckpointRequest>,
    ) -> Answer<types::CreateCheckpointResponse> {
        Err(Status::unimplemented("no checkpoints here"))
    }

    async fn delete_checkpoint(
        &self,
        _: Request<types::DeleteCheckpointRequest>,
    ) -> Answer<types::DeleteCheckpointResponse> {
        Err(Status::unimplemented("no checkpoints here"))
    }

    async fn list_checkpoint(
        &self,
        _: Request<types::ListCheckpointRequest>,
    ) -> Answer<types::ListCheckpointResponse> {
        Err(Status::unimplemented("no checkpoints here"))
    }

    async fn state(&self, request: Request<types::StateRequest>) -> Answer<types::StateResponse> {
        let id = request.into_inner().id;
        let containers = if id.is_empty() {
            self.0.containers.lock().unwrap().values().cloned().collect()
        } else {
            vec![self.0.find(&id)?]
        };
        Ok(Response::new(types::StateResponse { containers, machine: None }))
    }

    async fn events(&self, request: Request<types::EventsRequest>) -> Answer<Events> {
        let request = request.into_inner();
        let key = |t: &Timestamp| (t.seconds, t.nanos);
        let since = request.timestamp.as_ref().map(key);
        let id = request.id;
        let wanted = move |e: &types::Event| id.is_empty() || e.id == id;
        // Both under the journal's lock, so that no event is in neither or in both.
        let journal = self.0.journal.lock().unwrap();
        let live = self.0.live.subscribe();
        let later = |e: &&types::Event| e.timestamp.as_ref().map(key) > since;
        let stored: Vec<_> = journal.iter().filter(later).cloned().collect();
        let stored = tokio_stream::iter(stored);
        if request.stored_only {
            return Ok(Response::new(Box::pin(stored.filter(wanted).map(Ok))));
        }
        let live = BroadcastStream::new(live).filter_map(Result::ok);
        Ok(Response::new(Box::pin(stored.chain(live).filter(wanted).map(Ok))))
    }

    async fn stats(&self, request: Request<types::StatsRequest>) -> Answer<types::StatsResponse> {
        self.0.find(&request.into_inner().id)?;
        Ok(Response::new(types::StatsResponse::default()))
    }
}
