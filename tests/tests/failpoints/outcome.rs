//! What must be true at the end of a story.

use std::{fs, path::PathBuf};

use gantry_api::{INIT, event_type};
use gantry_tests::{cgroup, events, eventually, leftovers};

use crate::{
    cases::When,
    story::{EXEC, Story},
};

impl Story {
    /// Checks the events, and that nothing is left.
    pub(crate) async fn conclude(mut self) {
        self.reached().await;
        self.revive().await;
        self.assert_published().await;
        let state = self.server.state_dir();
        // The files go after the last event; one shim waits.
        let left = || leftovers::in_state(&state, 1);
        if self.case.when == When::RestartAfterDamage {
            let is_damaged = |left: &[String]| matches!(left, [only] if only.starts_with("quarantine: ") && !only.contains(','));
            eventually("only what is damaged is left", || is_damaged(&left())).await;
        } else {
            eventually("no files are left", || left().is_empty()).await;
        }
        if self.case.when == When::CreateWithoutCgroup {
            assert_eq!(
                cgroup::directories(&self.server.service.cgroup),
                Vec::<PathBuf>::new(),
                "a cgroup is left"
            );
        }
        let _ = fs::remove_dir_all(&self.armed);
        self.server.finish().await;
    }

    /// Every event was published once, with the true status.
    async fn assert_published(&self) {
        let exits =
            |process: &'static str| self.server.service.events.wait_exit(0, &self.id, process);
        let status = exits(INIT).await;
        let events = self.server.service.events.all();
        let mut wanted = vec![
            (event_type::START_CONTAINER, "", 0),
            (event_type::START_PROCESS, EXEC, 0),
            (event_type::PAUSE, "", 0),
            (event_type::RESUME, "", 0),
            (event_type::EXIT, EXEC, 137),
            (event_type::EXIT, INIT, 3),
        ];
        // Only the shim knew the status, and died.
        if status == 255 && self.case.when == When::EndWithoutServer {
            wanted.last_mut().expect("an exit").2 = status;
        }
        let mut seen: Vec<_> = events
            .iter()
            .map(|event| (event.r#type.as_str(), event.pid.as_str(), event.status))
            .collect();
        if self.case.when == When::Oom {
            assert!(seen.iter().any(|event| event.0 == event_type::OOM), "no oom: {seen:?}");
            seen.retain(|event| event.0 != event_type::OOM && event.1 != "oom");
        }
        assert_eq!(
            seen.iter()
                .map(|(kind, process, status)| match *kind {
                    event_type::PAUSE | event_type::RESUME => (*kind, "", *status),
                    _ => (*kind, *process, *status),
                })
                .collect::<Vec<_>>(),
            wanted,
            "{}",
            events::listing(&events),
        );
    }
}
