//! What is made with the earlier version, and what happens until there is a server again.

use gantry_api::types::{self, Event, StateRequest};
use gantry_tests::{
    Container, NewContainer, PATIENCE, Process, Runtime, Server, eventually, patiently, processes,
};
use rustix::process::Signal;
use serde_json::json;

/// Which the earlier version did not record.
pub(crate) const OOM_SCORE_ADJ: i32 = 300;

/// Containers and processes of the earlier version.
pub(crate) struct Before {
    /// Runs on a runtime that its request names, and echoes its input.
    pub(crate) worker: Container,
    /// In the worker: wait for a line.
    pub(crate) exec: Process,
    pub(crate) ends_away: Process,
    /// In the worker: a shell on a terminal.
    pub(crate) console: Process,
    pub(crate) terminal: Container,
    pub(crate) paused: Container,
    /// Paused, to be killed as such.
    pub(crate) frozen: Container,
    /// Takes more memory than it may when it reads a line.
    pub(crate) limited: Container,
    /// Two with one cgroup.
    pub(crate) shared: [Container; 2],
    /// Was asked to end, and ends while there is no server.
    pub(crate) stopping: Container,
    /// Is killed while there is no server.
    pub(crate) killed: Container,
    /// Ends while there is no server, and nobody has read what it has written.
    pub(crate) unread_away: Container,
    /// Has ended, and nobody has read what it has written.
    pub(crate) unread: Container,
    /// Has ended while nobody followed events.
    pub(crate) unseen: Container,
    /// All that has happened until then.
    pub(crate) events: Vec<Event>,
    pub(crate) state: Vec<types::Container>,
}

impl Before {
    pub(crate) async fn make(server: &Server) -> Self {
        let create = async |container: NewContainer| container.create().await.unwrap();
        let named = server.container("worker").runtime(Runtime::Runc).request(|request| {
            request.labels = vec!["a=1".to_owned(), "b=2".to_owned()];
        });
        let mut worker = create(named.sh("cat; exit 7")).await;
        echoes(&mut worker.init, "before").await;
        let exec = worker.exec("exec").sh("read line; echo $line; exit 8").start().await.unwrap();
        let ends_away = worker.exec("ends-away").sh("read line; exit 9").start().await.unwrap();
        let console = worker.exec("console").terminal(Some((80, 24))).args(&["sh"]);
        let mut console = console.start().await.unwrap();
        calculates(&mut console, 1).await;
        let mut terminal = create(server.container("terminal").terminal().args(&["sh"])).await;
        calculates(&mut terminal.init, 1).await;

        let [paused, frozen] = ["paused", "frozen"].map(|id| {
            let container = server.container(id);
            container.config(|config| config["process"]["oomScoreAdj"] = json!(OOM_SCORE_ADJ))
        });
        let (paused, frozen) = (create(paused).await, create(frozen).await);
        paused.pause().await;
        frozen.pause().await;
        let limited = server.container("limited").config(|config| {
            let limit = 32 << 20;
            config["linux"]["resources"] = json!({ "memory": { "limit": limit, "swap": limit } });
        });
        let limited = create(limited.sh("read line; tail /dev/zero; exit 4")).await;
        let shared = ["shared-1", "shared-2"].map(|id| {
            let path = format!("{}/shared", server.service.cgroup);
            server.container(id).config(|config| config["linux"]["cgroupsPath"] = json!(path))
        });
        let [one, other] = shared;
        let shared = [create(one).await, create(other).await];

        let stopping = "trap 'echo stopping; read line; exit 12' TERM; echo ready; \
            while true; do sleep 0.1; done";
        let mut stopping = create(server.container("stopping").sh(stopping)).await;
        stopping.init.pipes().stdout_until("ready").await;
        stopping.init.signal(15).await.unwrap();
        stopping.init.pipes().stdout_until("stopping").await;
        let killed = create(server.container("killed")).await;
        let unread_away = server.container("unread-away").sh("read line; echo words; exit 6");
        let unread_away = create(unread_away).await;
        let mut unread =
            create(server.container("unread").sh("read line; echo words; exit 3")).await;
        ends_unread(&mut unread.init).await;
        assert_eq!(unread.init.exit().await, 3);

        let mut unseen = create(server.container("unseen").sh("read line; exit 21")).await;
        let started = server.service.events.wait_type(0, "unseen", "start-container").await;
        let events = server.service.events.all();
        assert_eq!(events.last(), Some(&started), "nothing else happens");
        server.service.events.leave();
        unseen.init.pipes().write(b"go\n").await;
        patiently("an exit that no subscriber gets", async {
            while unseen.state().await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await;
        let removed = server.state_dir().join("removed");
        let is_journalled = || removed.read_dir().unwrap().next().is_none();
        eventually("its exit is in the journal", is_journalled).await;
        let state = state(server).await;
        Self {
            worker,
            exec,
            ends_away,
            console,
            terminal,
            paused,
            frozen,
            limited,
            shared,
            stopping,
            killed,
            unread_away,
            unread,
            unseen,
            events,
            state,
        }
    }

    /// Streams go on, and processes end.
    pub(crate) async fn go_on_without_server(&mut self) {
        echoes(&mut self.worker.init, "without a server").await;
        calculates(&mut self.console, 2).await;
        calculates(&mut self.terminal.init, 2).await;
        for process in [&mut self.ends_away, &mut self.stopping.init] {
            process.pipes().write(b"go\n").await;
            assert!(process.ends_within(PATIENCE).await);
        }
        processes::signal(self.killed.init.system_pid, Signal::KILL);
        assert!(self.killed.init.ends_within(PATIENCE).await);
        ends_unread(&mut self.unread_away.init).await;
    }
}

/// All containers in the order of their ids.
pub(crate) async fn state(server: &Server) -> Vec<types::Container> {
    let mut api = server.service.api();
    let state = patiently("State", api.state(StateRequest::default()));
    let mut containers = state.await.unwrap().into_inner().containers;
    containers.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    for container in &mut containers {
        container.processes.sort_unstable_by(|one, other| one.pid.cmp(&other.pid));
        container.pids.sort_unstable();
    }
    containers
}

/// A process that echoes its input does so.
async fn echoes(process: &mut Process, words: &str) {
    process.pipes().write(format!("{words}\n").as_bytes()).await;
    process.pipes().stdout_until(words).await;
}

/// A shell on a terminal answers: what is read is not what the terminal has echoed.
pub(crate) async fn calculates(process: &mut Process, number: u32) {
    process.pipes().write(format!("echo $(({number} + 40))-is\n").as_bytes()).await;
    process.pipes().stdout_until(&format!("{}-is", number + 40)).await;
}

/// The daemon that has its pipes goes away, and it ends.
async fn ends_unread(process: &mut Process) {
    process.pipes().write(b"go\n").await;
    process.pipes().hang_up();
    assert!(process.ends_within(PATIENCE).await);
}
