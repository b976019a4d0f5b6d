//! Whether and when a container that has ended is started again.

use std::time::Duration;

use crate::model::{RestartPolicy, State};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(60);
/// A container that ran for so long did not fail at its start: the next wait is the shortest again.
const LONG_RUN: Duration = Duration::from_secs(10);

/// How long to wait before the container is started again; `None` for never.
pub(crate) fn delay(policy: RestartPolicy, state: &State, ran: Duration) -> Option<Duration> {
    if state.stopped || !wants_restart(policy, state) {
        return None;
    }
    if ran >= LONG_RUN {
        return Some(FIRST);
    }
    Some((state.restart_delay * 2).clamp(FIRST, LONGEST))
}

fn wants_restart(policy: RestartPolicy, state: &State) -> bool {
    match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            state.exit_code != 0 && max_retries.is_none_or(|max| state.restart_count < max)
        }
    }
}

/// Whether a container that does not run is started along with the daemon.
pub(crate) fn starts_with_daemon(policy: RestartPolicy, state: &State) -> bool {
    let was_started = state.started.is_some();
    match policy {
        RestartPolicy::Always => was_started,
        RestartPolicy::UnlessStopped => was_started && !state.stopped,
        RestartPolicy::No | RestartPolicy::OnFailure { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{container::testing, model::Record};
    use std::time::SystemTime;

    const SHORT: Duration = Duration::from_millis(5);

    fn exited(exit_code: u32) -> State {
        let mut state = Record::new("1".into(), "web".into(), testing::config()).state;
        state.exit_code = exit_code;
        state.started = Some(SystemTime::now());
        state
    }

    #[test]
    fn the_wait_doubles_up_to_a_minute() {
        let mut state = exited(1);
        let mut waits = Vec::new();
        for _ in 0..12 {
            state.restart_delay = delay(RestartPolicy::Always, &state, SHORT).unwrap();
            waits.push(state.restart_delay.as_millis());
        }
        assert_eq!(waits[..4], [100, 200, 400, 800]);
        assert_eq!(waits[10..], [60_000, 60_000]);
        assert_eq!(delay(RestartPolicy::Always, &state, LONG_RUN), Some(FIRST));
    }

    #[test]
    fn failures_are_counted() {
        let policy = RestartPolicy::OnFailure { max_retries: Some(2) };
        let mut state = exited(1);
        assert!(delay(policy, &state, SHORT).is_some());
        state.restart_count = 2;
        assert_eq!(delay(policy, &state, SHORT), None);
        let policy = RestartPolicy::OnFailure { max_retries: None };
        assert!(delay(policy, &state, SHORT).is_some());
        assert_eq!(delay(policy, &exited(0), SHORT), None);
        assert_eq!(delay(RestartPolicy::No, &exited(1), SHORT), None);
    }

    #[test]
    fn a_stop_is_respected() {
        let mut state = exited(0);
        state.stopped = true;
        for policy in [RestartPolicy::Always, RestartPolicy::UnlessStopped] {
            assert_eq!(delay(policy, &state, SHORT), None);
        }
        assert!(starts_with_daemon(RestartPolicy::Always, &state));
        assert!(!starts_with_daemon(RestartPolicy::UnlessStopped, &state));
        state.stopped = false;
        assert!(starts_with_daemon(RestartPolicy::UnlessStopped, &state));
        state.started = None;
        assert!(!starts_with_daemon(RestartPolicy::Always, &state));
    }
}
