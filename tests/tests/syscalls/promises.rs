//! What must be true at the end of a life.

use std::time::{Duration, Instant};

use gantry_api::event_type;
use gantry_tests::{Runtime, cgroup, events::listing, leftovers, processes};

use crate::life::Life;

/// Until nothing may be left: a shim's linger is 10 s, and clean-up is tried again and again.
const GRACE: Duration = Duration::from_secs(60);

/// Between two looks at what is left.
const PAUSE: Duration = Duration::from_millis(10);

impl Life {
    /// Checks the events, and that nothing is left. Returns the points that were reached.
    pub(crate) async fn conclude(mut self) -> Vec<String> {
        self.nothing_left().await;
        let roots = [(Runtime::Crun, self.server.service.runtime_root(Runtime::Crun))];
        leftovers::assert_none(&self.server.service, &roots).await;
        self.open_files.assert_unchanged(self.server.pid(), self.server.work()).await;
        self.assert_exits();
        self.stop().await;
        self.nothing_left().await;
        let log = self.server.log();
        assert!(self.known_panic || !log.contains("panicked"), "the server has panicked");
        self.reached()
    }

    /// Every process has one exit, with its true status, in the order in which they ended.
    fn assert_exits(&self) {
        self.server.service.events.assert_consistent();
        let events = self.server.service.events.all();
        let exits = events.iter().filter(|event| event.r#type == event_type::EXIT);
        let exits: Vec<_> = exits.map(|event| (event.pid.clone(), event.status)).collect();
        assert_eq!(exits, self.ended, "exits; seen:\n{}", listing(&events));
    }

    async fn nothing_left(&self) {
        let begin = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(begin.elapsed() < GRACE, "left after {GRACE:?}: {left:#?}");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What the runtime, the kernel and the state directory have of any container.
    fn left(&self) -> Vec<String> {
        let service = &self.server.service;
        let mut left: Vec<String> = Vec::new();
        let cgroups = cgroup::children(&service.cgroup);
        left.extend(cgroups.iter().map(|path| format!("cgroup {}", path.display())));
        let states = Runtime::list(&service.runtime_root(Runtime::Crun));
        left.extend(states.iter().map(|id| format!("runtime state {id}")));
        let mut running = processes::belonging_to(&service.work, &service.cgroup);
        running.retain(|found| !found.command.contains("unix://"));
        let spare = running.iter().position(processes::Found::is_spare_shim);
        if let Some(spare) = spare.filter(|_| self.server.is_running()) {
            running.remove(spare);
        }
        left.extend(running.iter().map(|found| format!("process {found:?}")));
        // One shim waits for the next process, as long as there is a server.
        let spares = usize::from(self.server.is_running());
        left.extend(leftovers::in_state(&self.server.state_dir(), spares));
        left
    }
}
