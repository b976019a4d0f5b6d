//! Labels, by which monitors find containers and their events.

use std::sync::Arc;

/// Most bytes of a container's labels that its events have, with what each label costs. Events of containers that are
/// gone are kept in memory, with their labels, tens of thousands of them.
const MAX: usize = 4096;

/// What is counted for a label beside its bytes.
const COST: usize = 64;

/// The labels of a container as its events have them: each is `key=value`, or a key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// All of them.
    Known(Arc<[String]>),
    /// They are longer, or more, than events can have. Whoever asks for some label is told of such a container, too: a monitor
    /// must not miss an event.
    TooLong,
}

/// A label that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedLabel {
    /// Has no equals sign.
    pub key: String,
    /// Any if there is none.
    pub value: Option<String>,
}

impl Labels {
    /// Those of a container.
    #[must_use]
    pub fn of(labels: &Arc<[String]>) -> Self {
        let cost: usize = labels.iter().map(|label| label.len() + COST).sum();
        if cost > MAX { Self::TooLong } else { Self::Known(Arc::clone(labels)) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Known(labels) if labels.is_empty())
    }

    /// Whether a label is among them, or could be.
    #[must_use]
    pub fn may_have(&self, wanted: &WantedLabel) -> bool {
        match self {
            Self::Known(labels) => labels.iter().any(|label| wanted.is(label)),
            Self::TooLong => true,
        }
    }
}

impl Default for Labels {
    fn default() -> Self {
        Self::Known(Arc::default())
    }
}

impl WantedLabel {
    fn is(&self, label: &str) -> bool {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        self.key == key && self.value.as_ref().is_none_or(|wanted| wanted == value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(labels: &[&str]) -> Labels {
        Labels::of(&labels.iter().map(|label| (*label).to_owned()).collect())
    }

    fn wanted(key: &str, value: Option<&str>) -> WantedLabel {
        WantedLabel { key: key.to_owned(), value: value.map(str::to_owned) }
    }

    #[test]
    fn a_label_is_found_by_its_key_and_its_value() {
        let labels = labels(&["app=web", "alone", "query=a=b"]);
        for (key, value, found) in [
            ("app", None, true),
            ("app", Some("web"), true),
            ("app", Some("we"), false),
            ("app", Some(""), false),
            ("ap", None, false),
            ("alone", None, true),
            ("alone", Some(""), true),
            ("alone", Some("x"), false),
            ("query", Some("a=b"), true),
            ("", None, false),
        ] {
            assert_eq!(labels.may_have(&wanted(key, value)), found, "{key} {value:?}");
        }
    }

    #[test]
    fn labels_that_are_too_long_could_be_any() {
        let long = "x".repeat(MAX - COST + 1);
        assert_eq!(labels(&[&long]), Labels::TooLong);
        assert!(labels(&[&long]).may_have(&wanted("app", Some("web"))));
        assert!(!labels(&[&long[1..]]).may_have(&wanted("app", None)));
        let many = vec![""; MAX / COST + 1];
        assert_eq!(labels(&many), Labels::TooLong);
        assert!(matches!(labels(&many[1..]), Labels::Known(_)));
        assert!(labels(&[]).is_empty() && !labels(&[&long]).is_empty());
    }
}
