//! A container's labels about restarts, with the keys and values of containerd's package `restart`.

use gantry_store::Labels;

/// Which status the container is to have; without this label there is no keeper.
pub(super) const STATUS: &str = "containerd.io/restart.status";
const POLICY: &str = "containerd.io/restart.policy";
/// How often the container was restarted.
pub(super) const COUNT: &str = "containerd.io/restart.count";
const EXPLICITLY_STOPPED: &str = "containerd.io/restart.explicitly-stopped";
const LOG_URI: &str = "containerd.io/restart.loguri";
/// A file's path, before containerd 2.0.
const LOG_PATH: &str = "containerd.io/restart.logpath";

/// The policies, as introspection lists them.
pub(in crate::services::containerd) const POLICIES: [&str; 4] =
    ["no", "always", "on-failure", "unless-stopped"];

/// What the labels ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) status: Status,
    /// An error says what is wrong with the label.
    pub(super) policy: Result<Policy, String>,
    /// None if the label is no number.
    count: Option<i64>,
    explicitly_stopped: bool,
    /// Where the output goes, as a URI.
    pub(super) log: Option<String>,
}

/// The status that a container is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    Stopped,
    /// As `created`: nothing is done.
    Other,
}

/// When a container is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    No,
    Always,
    /// Zero stands for any number of restarts.
    OnFailure {
        max: i64,
    },
    UnlessStopped,
}

impl Wanted {
    /// None if the container has no such labels.
    pub(super) fn of(labels: &Labels) -> Option<Self> {
        let text = |key: &str| labels.get(key).map_or("", String::as_str);
        let status = match labels.get(STATUS)?.as_str() {
            "running" => Status::Running,
            "stopped" => Status::Stopped,
            _ => Status::Other,
        };
        let count = match text(COUNT) {
            "" => Some(0),
            count => count.parse().ok(),
        };
        let log = match (text(LOG_URI), text(LOG_PATH)) {
            ("", "") => None,
            ("", path) => Some(format!("file://{path}")),
            (uri, _) => Some(uri.to_owned()),
        };
        Some(Self {
            status,
            policy: Policy::parse(text(POLICY)),
            count,
            explicitly_stopped: is_true(text(EXPLICITLY_STOPPED)),
            log,
        })
    }

    /// Whether the container is restarted after this end: an exit status, or none if it has no task.
    pub(super) fn restarts(&self, ended: Option<u32>) -> bool {
        match self.policy {
            Ok(Policy::Always) => true,
            Ok(Policy::UnlessStopped) => !self.explicitly_stopped,
            Ok(Policy::OnFailure { max }) => {
                let again = self.count.is_some_and(|count| max == 0 || count < max);
                again && ended.is_some_and(|status| status != 0)
            }
            Ok(Policy::No) | Err(_) => false,
        }
    }

    /// The value of the label after the next restart.
    pub(super) fn next_count(&self) -> i64 {
        self.count.unwrap_or(0).saturating_add(1)
    }
}

impl Policy {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, max) = match text.split_once(':') {
            Some((name, max)) => (name, Some(max)),
            None => (text, None),
        };
        let policy = match (name, max) {
            ("no", None) => Self::No,
            ("" | "always", None) => Self::Always,
            ("unless-stopped", None) => Self::UnlessStopped,
            ("on-failure", None) => Self::OnFailure { max: 0 },
            ("on-failure", Some(max)) => {
                let max = max.parse().map_err(|_| format!("invalid max retry count: {max}"))?;
                Self::OnFailure { max }
            }
            ("" | "no" | "always" | "unless-stopped", Some(_)) => {
                return Err(format!("restart policy {name:?} not support max retry count"));
            }
            _ => return Err(format!("restart policy {text:?} not supported")),
        };
        Ok(policy)
    }
}

/// As Go's strconv.ParseBool.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "TRUE" | "true" | "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn running(pairs: &[(&str, &str)]) -> Wanted {
        let mut labels = labels(pairs);
        labels.insert(STATUS.to_owned(), "running".to_owned());
        Wanted::of(&labels).unwrap()
    }

    #[test]
    fn without_a_status_there_is_nothing_to_do() {
        assert_eq!(Wanted::of(&labels(&[(POLICY, "always"), (COUNT, "3")])), None);
        for (text, status) in
            [("running", Status::Running), ("stopped", Status::Stopped), ("created", Status::Other)]
        {
            assert_eq!(Wanted::of(&labels(&[(STATUS, text)])).unwrap().status, status);
        }
    }

    #[test]
    fn policies_are_those_of_containerd() {
        let policy = |text: &str| running(&[(POLICY, text)]).policy;
        assert_eq!(policy(""), Ok(Policy::Always));
        assert_eq!(policy("no"), Ok(Policy::No));
        assert_eq!(policy("unless-stopped"), Ok(Policy::UnlessStopped));
        assert_eq!(policy("on-failure"), Ok(Policy::OnFailure { max: 0 }));
        assert_eq!(policy("on-failure:7"), Ok(Policy::OnFailure { max: 7 }));
        for bad in ["on-failure:", "on-failure:x", "on-failure:1:2", "always:1", "no:1", "ALWAYS"] {
            assert!(policy(bad).is_err(), "{bad}");
            assert!(!running(&[(POLICY, bad)]).restarts(Some(1)), "{bad}");
        }
    }

    #[test]
    fn a_policy_decides_by_the_end_and_the_count() {
        let restarts = |policy: &str, count: &str, ended: Option<u32>| {
            running(&[(POLICY, policy), (COUNT, count)]).restarts(ended)
        };
        for ended in [None, Some(0), Some(1)] {
            assert!(restarts("always", "5", ended) && restarts("unless-stopped", "5", ended));
            assert!(!restarts("no", "", ended));
        }
        assert!(restarts("on-failure", "1000", Some(255)));
        assert!(!restarts("on-failure", "", Some(0)) && !restarts("on-failure", "", None));
        assert!(restarts("on-failure:2", "", Some(1)) && restarts("on-failure:2", "1", Some(1)));
        assert!(!restarts("on-failure:2", "2", Some(1)));
        assert!(!restarts("on-failure:-1", "", Some(1)));
        // Without a valid count a bound counts as reached.
        assert!(!restarts("on-failure:2", "x", Some(1)) && restarts("always", "x", Some(1)));
        assert_eq!(running(&[(COUNT, "x")]).next_count(), 1);
        assert_eq!(running(&[(COUNT, "41")]).next_count(), 42);
    }

    #[test]
    fn a_container_that_was_stopped_explicitly_stays_stopped() {
        let stopped = |text: &str, policy: &str| {
            !running(&[(POLICY, policy), (EXPLICITLY_STOPPED, text)]).restarts(Some(0))
        };
        assert!(stopped("true", "unless-stopped") && stopped("1", "unless-stopped"));
        assert!(!stopped("false", "unless-stopped") && !stopped("yes", "unless-stopped"));
        assert!(!stopped("true", "always"));
    }

    #[test]
    fn a_path_is_a_log_unless_there_is_a_uri() {
        assert_eq!(running(&[]).log, None);
        assert_eq!(running(&[(LOG_PATH, "/a")]).log.as_deref(), Some("file:///a"));
        let both = running(&[(LOG_PATH, "/a"), (LOG_URI, "binary:///b?c=d")]);
        assert_eq!(both.log.as_deref(), Some("binary:///b?c=d"));
    }
}
