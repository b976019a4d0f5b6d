//! The callers: each makes one container after the other under the same id, runs execs in it,
//! pauses it, and ends it, whatever happens to the server meanwhile.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use gantry_api::{
    INIT,
    types::{self, CreateContainerRequest, SignalRequest, UpdateContainerRequest},
};
use gantry_tests::{PATIENCE, Runtime, bundle::Bundle, patiently, service::Service};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use crate::{
    exec,
    kills::now,
    model::{Attempt, Expected, History, Life},
};

const LOOK_AGAIN: Duration = Duration::from_millis(25);

/// What the callers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: Arc<Service>,
    /// Nobody is killed any more.
    pub(crate) stop: AtomicBool,
    /// Lives to come.
    pub(crate) left: AtomicU64,
    histories: Mutex<Vec<History>>,
}

impl Shared {
    pub(crate) fn new(service: Arc<Service>, lifecycles: u64) -> Self {
        let (stop, left) = (AtomicBool::new(false), AtomicU64::new(lifecycles));
        Self { service, stop, left, histories: Mutex::default() }
    }

    pub(crate) fn report(&self, history: History) {
        self.histories.lock().expect("not poisoned").push(history);
    }

    pub(crate) fn histories(&self) -> Vec<History> {
        self.histories.lock().expect("not poisoned").clone()
    }
}

/// How init ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// By itself, after some milliseconds.
    Own(u64),
    /// By SIGTERM, which it handles.
    Term,
    /// By SIGKILL.
    Kill,
}

/// One caller.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) rng: fastrand::Rng,
    pub(crate) history: History,
    bundle: Bundle,
    code: u8,
}

impl Worker {
    pub(crate) fn new(number: u64, shared: Arc<Shared>, rng: fastrand::Rng) -> Self {
        let id = format!("c{number}");
        let service = &shared.service;
        let directory = service.work.join("bundles").join(&id);
        let cgroup = format!("{}/{id}", service.cgroup);
        let bundle = Bundle::new(directory, &service.work.join("rootfs"), &cgroup);
        let history = History { id, lives: Vec::new(), cut_calls: 0 };
        Self { shared, rng, history, bundle, code: 0 }
    }

    pub(crate) async fn run(mut self) -> History {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.live().await;
            let less = |left: u64| left.checked_sub(1);
            let _ = self.shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
        self.live().await;
        let last = self.history.lives.last().expect("a life");
        assert!(
            last.init.known,
            "{} does not come to be, though nobody is killed",
            self.history.id
        );
        self.history
    }

    async fn live(&mut self) {
        let code = self.next_code();
        let end = match self.rng.u8(..3) {
            0 => End::Own(self.rng.u64(..1500)),
            1 => End::Term,
            _ => End::Kill,
        };
        self.write_bundle(end, code);
        let asked_at = now();
        let known = self.create().await;
        let expected = match end {
            End::Own(_) => Expected { own: Some(code.into()), forced: Vec::new() },
            End::Term if known => {
                Expected { own: Some(code.into()), forced: self.terms_before_exec() }
            }
            End::Kill if known => Expected { own: None, forced: vec![137] },
            // Nobody ends it, unless it is found to be there after all.
            End::Term | End::Kill => Expected::default(),
        };
        let init = Attempt { process: INIT.to_owned(), expected, known, asked_at };
        let mut life = Life { init, execs: Vec::new() };
        if known {
            self.operate(&mut life).await;
            self.end(end, &mut life).await;
        }
        self.history.lives.push(life);
    }

    /// SIGTERM may come to the process that is about to become the container's. runc's is a program
    /// in Go, which sends itself the signal again without a handler, survives it as all pid 1 do,
    /// and exits with 2 (`dieFromSignal` in Go's runtime/signal_unix.go).
    fn terms_before_exec(&self) -> Vec<u32> {
        match self.shared.service.runtime {
            Runtime::Runc => vec![2],
            Runtime::Crun => Vec::new(),
        }
    }

    /// No two lives in a row have the same, so that they are not taken for each other; nor is any 2,
    /// see [`Self::terms_before_exec`].
    pub(crate) fn next_code(&mut self) -> u8 {
        self.code = (self.code % 100 + 1).max(3);
        self.code
    }

    fn write_bundle(&mut self, end: End, code: u8) {
        let script = match end {
            End::Own(after) => {
                format!("sleep {}.{:03}; exit {code}", after / 1000, after % 1000)
            }
            End::Term => format!("trap 'exit {code}' TERM; sleep 1000000 & wait"),
            End::Kill => "exec sleep 1000000".to_owned(),
        };
        self.bundle.config["process"]["args"] = json!(["sh", "-c", script]);
        self.bundle.write();
    }

    /// Whether it exists. If not, it may have lived without anybody knowing.
    async fn create(&mut self) -> bool {
        let request = CreateContainerRequest {
            id: self.history.id.clone(),
            bundle_path: self.bundle.directory.to_str().expect("UTF-8").to_owned(),
            ..CreateContainerRequest::default()
        };
        let retrying = async {
            loop {
                let mut api = self.shared.service.api();
                match self.cut(api.create_container(request.clone())).await {
                    Ok(_) => return true,
                    // Of the life before, whose caller had no answer.
                    Err(error) if error.code() == Code::AlreadyExists => self.end_unknown().await,
                    Err(_) => return self.state().await.is_some(),
                }
            }
        };
        match timeout(PATIENCE, retrying).await {
            Ok(known) => known,
            Err(_) => panic!("cannot create the container: its id is taken for {PATIENCE:?}"),
        }
    }

    /// Ends a container of the attempt before that was started after all, or waits until it is gone.
    async fn end_unknown(&mut self) {
        if self.state().await.is_some() {
            let last = self.history.lives.last_mut().expect("a life before");
            assert!(!last.init.known, "the id is still taken after the end: {last:?}");
            last.init.known = true;
            last.init.expected.forced.push(137);
            self.signal_until_gone(INIT, 9).await;
        }
        sleep(LOOK_AGAIN).await;
    }

    /// A call, which is cut at times.
    pub(crate) async fn cut<T>(
        &mut self,
        call: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        if self.shared.stop.load(Ordering::Relaxed) || self.rng.u8(..8) > 0 {
            return call.await;
        }
        let after = Duration::from_millis(self.rng.u64(..100));
        match timeout(after, call).await {
            Ok(result) => result,
            Err(_) => {
                self.history.cut_calls += 1;
                Err(Status::cancelled("by its caller"))
            }
        }
    }

    async fn operate(&mut self, life: &mut Life) {
        for number in 0..self.rng.u8(..4) {
            match self.rng.u8(..4) {
                0 => self.pause_and_resume().await,
                1 => sleep(Duration::from_millis(self.rng.u64(..100))).await,
                _ => exec::start(self, life, &format!("e{number}")).await,
            }
        }
    }

    async fn pause_and_resume(&mut self) {
        let paused = self.set_status("paused").await;
        sleep(Duration::from_millis(self.rng.u64(..50))).await;
        let resumed = self.set_status("running").await;
        if paused.is_ok() && resumed.is_ok() {
            return;
        }
        // Whatever went wrong, it can be resumed if it is paused.
        let mut last = None;
        let resuming = async {
            while let Some(state) = self.state().await
                && state.status == "paused"
            {
                last = Some(self.set_status("running").await);
            }
        };
        let resumed = timeout(PATIENCE, resuming).await;
        assert!(resumed.is_ok(), "{} stays paused: {last:?}", self.history.id);
    }

    async fn set_status(&mut self, status: &str) -> Result<(), Status> {
        let (id, status) = (self.history.id.clone(), status.to_owned());
        let request = UpdateContainerRequest { id, status, ..UpdateContainerRequest::default() };
        self.shared.service.api().update_container(request).await.map(drop)
    }

    async fn end(&mut self, end: End, life: &mut Life) {
        let orderly = !matches!(end, End::Own(_)) && self.rng.bool();
        if orderly {
            exec::await_all(self, life).await;
        } else {
            // Those that live are killed with the container.
            life.execs.iter_mut().for_each(|exec| exec.expected.forced.push(137));
        }
        match end {
            End::Own(_) => self.until_gone(INIT).await,
            End::Term => self.signal_until_gone(INIT, 15).await,
            End::Kill => self.signal_until_gone(INIT, 9).await,
        }
    }

    /// Signals again and again: the first one may come before there is a handler for it.
    pub(crate) async fn signal_until_gone(&mut self, process: &str, signal: u32) {
        let ending = async {
            while self.has(process).await {
                let (id, pid) = (self.history.id.clone(), process.to_owned());
                let request = SignalRequest { id, pid, signal };
                let _ = self.shared.service.api().signal(request).await;
                sleep(LOOK_AGAIN).await;
            }
        };
        self.patiently(&format!("the end of {process} by signal {signal}"), ending).await;
    }

    pub(crate) async fn until_gone(&mut self, process: &str) {
        let ending = async {
            while self.has(process).await {
                sleep(LOOK_AGAIN).await;
            }
        };
        self.patiently(&format!("the end of {process}"), ending).await;
    }

    async fn patiently(&self, what: &str, future: impl Future<Output = ()>) {
        patiently(&format!("{}: {what}", self.history.id), future).await;
    }

    /// Whether the server knows of a process; of init, whether it knows of the container.
    pub(crate) async fn has(&self, process: &str) -> bool {
        let state = self.state().await;
        // A container that is being cleared away has no process any more.
        state.is_some_and(|state| {
            process == INIT || state.processes.iter().any(|found| found.pid == process)
        })
    }

    /// What the server says about the container; asked again until there is a server.
    pub(crate) async fn state(&self) -> Option<types::Container> {
        let asking = async {
            loop {
                match self.shared.service.state(&self.history.id).await {
                    Ok(state) => return Some(state),
                    Err(error) if error.code() == Code::NotFound => return None,
                    Err(_) => sleep(LOOK_AGAIN).await,
                }
            }
        };
        patiently(&format!("the state of {}", self.history.id), asking).await
    }
}
