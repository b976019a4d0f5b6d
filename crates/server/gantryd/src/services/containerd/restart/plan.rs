//! What is to be done about a container, and how soon: no IO, no clock.

use std::time::SystemTime;

use super::labels::{Status, Wanted};

/// A container as its keeper has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// When its metadata were changed last.
    pub(super) updated_at: SystemTime,
    pub(super) situation: Situation,
}

/// Where a container's task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Situation {
    NoTask,
    /// Somebody is making it.
    Starting,
    /// It waits to be started.
    Created,
    Running,
    Paused,
    Stopped(End),
}

/// How a task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The exit code, or 128 and the number of the signal.
    pub(super) status: u32,
    pub(super) at: SystemTime,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    Nothing,
    /// The task is ended and deleted.
    Stop,
    /// A new task takes the place of the old one, if there is one.
    Start,
}

/// How soon it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delay {
    None,
    /// The pause that grows with the container's restarts.
    Pause,
    /// The time that a client may take between two steps with the container.
    Grace,
}

/// `lost` is the status of the last task, if the keeper has deleted it and could not make another.
pub(super) fn plan(wanted: &Wanted, situation: Situation, lost: Option<u32>) -> Plan {
    let start = |ended| if wanted.restarts(ended) { Plan::Start } else { Plan::Nothing };
    match (wanted.status, situation) {
        (Status::Running, Situation::NoTask) => start(lost),
        // As in containerd: a task that does not run has the exit status 0.
        (Status::Running, Situation::Created) => start(Some(0)),
        (Status::Running, Situation::Stopped(end)) => start(Some(end.status)),
        (Status::Stopped, Situation::Created | Situation::Running | Situation::Paused) => {
            Plan::Stop
        }
        _ => Plan::Nothing,
    }
}

/// Clients change labels before they create, start or delete a task themselves, in several calls. Such work is left
/// to them for a while; the end of a task that ran does not count as such.
///
/// `own` says that the keeper has acted upon this version of the metadata before; `first`, that the server has just
/// started, so that callers of the one before have lost their connections.
pub(super) fn delay(plan: Plan, seen: &Seen, own: bool, first: bool) -> Delay {
    match (plan, seen.situation) {
        (_, Situation::Created) => Delay::Grace,
        (Plan::Start, Situation::Stopped(end)) if own || end.at >= seen.updated_at => Delay::Pause,
        (Plan::Start, _) if !first => Delay::Grace,
        _ => Delay::None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use gantry_store::Labels;

    use super::*;

    fn wanted(status: &str, policy: &str) -> Wanted {
        let pairs = [("status", status), ("policy", policy)];
        let label =
            |(key, value): (&str, &str)| (format!("containerd.io/restart.{key}"), value.to_owned());
        Wanted::of(&pairs.map(label).into_iter().collect::<Labels>()).unwrap()
    }

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    fn stopped(status: u32) -> Situation {
        Situation::Stopped(End { status, at: at(100) })
    }

    #[test]
    fn what_runs_as_wanted_is_left_alone() {
        for policy in ["always", "on-failure", "unless-stopped", "no"] {
            let running = wanted("running", policy);
            for situation in [Situation::Running, Situation::Paused, Situation::Starting] {
                assert_eq!(plan(&running, situation, Some(1)), Plan::Nothing);
            }
        }
        for situation in [Situation::NoTask, stopped(1), Situation::Running] {
            assert_eq!(plan(&wanted("created", "always"), situation, None), Plan::Nothing);
        }
    }

    #[test]
    fn a_task_that_does_not_run_is_replaced_as_the_policy_says() {
        let always = wanted("running", "always");
        for situation in [Situation::NoTask, Situation::Created, stopped(0), stopped(137)] {
            assert_eq!(plan(&always, situation, None), Plan::Start);
            assert_eq!(plan(&wanted("running", "no"), situation, Some(1)), Plan::Nothing);
        }
        let on_failure = wanted("running", "on-failure");
        assert_eq!(plan(&on_failure, stopped(3), None), Plan::Start);
        assert_eq!(plan(&on_failure, stopped(0), None), Plan::Nothing);
        assert_eq!(plan(&on_failure, Situation::Created, None), Plan::Nothing);
        assert_eq!(plan(&on_failure, Situation::NoTask, None), Plan::Nothing);
        assert_eq!(plan(&on_failure, Situation::NoTask, Some(3)), Plan::Start);
    }

    #[test]
    fn who_is_to_be_stopped_is_ended_and_an_ended_one_is_its_clients() {
        let to_stop = wanted("stopped", "always");
        for situation in [Situation::Running, Situation::Paused, Situation::Created] {
            assert_eq!(plan(&to_stop, situation, None), Plan::Stop);
        }
        for situation in [Situation::NoTask, Situation::Starting, stopped(1)] {
            assert_eq!(plan(&to_stop, situation, None), Plan::Nothing);
        }
    }

    #[test]
    fn clients_have_time_for_what_they_have_begun() {
        let seen = |updated_at, situation| Seen { updated_at, situation };
        let before = seen(at(50), stopped(1));
        let after = seen(at(150), stopped(1));
        let none = seen(at(50), Situation::NoTask);
        let created = seen(at(50), Situation::Created);
        let start = |seen: &Seen, own, first| delay(Plan::Start, seen, own, first);
        assert_eq!(start(&before, false, false), Delay::Pause);
        assert_eq!(start(&before, false, true), Delay::Pause);
        assert_eq!(start(&after, false, false), Delay::Grace);
        assert_eq!(start(&after, true, false), Delay::Pause);
        assert_eq!(start(&after, false, true), Delay::None);
        assert_eq!(start(&none, false, false), Delay::Grace);
        assert_eq!(start(&none, true, false), Delay::Grace, "somebody has deleted the task");
        assert_eq!(start(&none, false, true), Delay::None);
        assert_eq!(start(&created, false, true), Delay::Grace);
        let running = seen(at(50), Situation::Running);
        assert_eq!(delay(Plan::Stop, &running, false, false), Delay::None);
        assert_eq!(delay(Plan::Stop, &created, false, true), Delay::Grace);
    }
}
