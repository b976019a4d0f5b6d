//! Kills the server, shims and runtimes at random moments.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gantry_tests::{
    Server,
    processes::{self, Found},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::{
    kills::{Kills, now},
    life::Shared,
};

/// The killers at work.
pub(crate) struct Monkeys {
    stop: Arc<AtomicBool>,
    task: JoinHandle<(Server, Kills)>,
}

impl Monkeys {
    pub(crate) fn start(server: Server, shared: Arc<Shared>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rng = fastrand::Rng::with_seed(!seed);
        let monkey = Monkey { server, shared, rng, kills: Kills::default() };
        let task = tokio::spawn(monkey.run(Arc::clone(&stop)));
        Self { stop, task }
    }

    /// The server, which runs, and what was killed.
    pub(crate) async fn stop(self) -> (Server, Kills) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic")
    }

    pub(crate) fn have_ended(&self) -> bool {
        self.task.is_finished()
    }
}

struct Monkey {
    server: Server,
    shared: Arc<Shared>,
    rng: fastrand::Rng,
    kills: Kills,
}

impl Monkey {
    async fn run(mut self, stop: Arc<AtomicBool>) -> (Server, Kills) {
        while !stop.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(self.rng.u64(..400))).await;
            match self.rng.u8(..10) {
                0 | 1 => self.kill_server().await,
                2..6 => self.kill_shim(),
                _ => self.kill_runtime(),
            }
        }
        (self.server, self.kills)
    }

    /// Sometimes kills it again while it reattaches.
    async fn kill_server(&mut self) {
        loop {
            self.kills.servers.push(now());
            self.server.kill().await;
            sleep(Duration::from_millis(self.rng.u64(..300))).await;
            self.server.start_again().await;
            if self.rng.bool() {
                return;
            }
            sleep(Duration::from_millis(self.rng.u64(..30))).await;
        }
    }

    fn kill_shim(&mut self) {
        let Some(shim) = self.pick("gantry-shim") else { return };
        // So that a spare one gets no process between the look and the kill.
        processes::stop(shim.pid);
        let directory = fs::read_link(format!("/proc/{}/cwd", shim.pid)).unwrap_or_default();
        if let Some((container, process)) = names(&directory) {
            self.kills.shims.push((container, process, now()));
        }
        processes::kill(shim.pid);
    }

    fn kill_runtime(&mut self) {
        if let Some(runtime) = self.pick(self.shared.service.runtime.name()) {
            self.kills.runtimes.push((runtime.command, now()));
            processes::kill(runtime.pid);
        }
    }

    fn pick(&mut self, name: &str) -> Option<Found> {
        let service = &self.shared.service;
        let mut found = processes::belonging_to(&service.work, &service.cgroup);
        // What a runtime has put into a container already is about to become the container's.
        let inside = format!(":{}/", service.cgroup);
        let is_inside = |pid: u32| {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
            cgroups.is_ok_and(|cgroups| cgroups.contains(&inside))
        };
        found.retain(|process| process.is_program(name) && !is_inside(process.pid));
        self.rng.choice(found)
    }
}

/// `.../containers/<namespace>/<container>/processes/<process>`. A task's container is named with its namespace.
fn names(directory: &Path) -> Option<(String, String)> {
    let mut names = directory.iter().rev().map(|name| name.to_string_lossy().into_owned());
    let (process, _, container, namespace) =
        (names.next()?, names.next()?, names.next()?, names.next()?);
    match namespace.strip_prefix('@') {
        Some(name) => Some((format!("{name}/{container}"), process)),
        None => (namespace == "types").then_some((container, process)),
    }
}
