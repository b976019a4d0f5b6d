//! Fields of requests, checked once.

use std::{collections::BTreeSet, time::Duration};

use gantry_api::v1::{self, watch_request::Begin};
use gantry_domain::{
    ContainerId, ContainerKey, Labels, Namespace, ProcessId, Timestamp, WantedLabel,
};
use gantry_events::From;

use crate::{rpc::BadField, services::time::moment};

/// How often a heartbeat is sent if the caller does not say.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// How often a caller may ask for one: more often is work for nothing, and later than the last is no sign of life.
const HEARTBEATS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// Most labels that a caller asks for: each is looked for in every event.
const LABELS: usize = 64;

/// Which containers a caller asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    namespaces: BTreeSet<Namespace>,
    ids: BTreeSet<ContainerId>,
    labels: Vec<WantedLabel>,
}

impl Wanted {
    pub(super) fn parse(filter: Option<v1::Filter>) -> Result<Self, BadField> {
        let v1::Filter { namespaces, container_ids, labels } = filter.unwrap_or_default();
        let field = |name: &str, index: usize| format!("filter.{name}[{index}]");
        if labels.len() > LABELS {
            return Err(BadField::new("filter.labels", format!("are more than {LABELS}")));
        }
        let namespaces = namespaces.iter().enumerate();
        let ids = container_ids.iter().enumerate();
        let labels = labels.into_iter().enumerate();
        Ok(Self {
            namespaces: namespaces
                .map(|(index, name)| {
                    namespace(name)
                        .map_err(|bad| BadField { field: field("namespaces", index).into(), ..bad })
                })
                .collect::<Result<_, _>>()?,
            ids: ids
                .map(|(index, id)| {
                    container_id(id).map_err(|bad| BadField {
                        field: field("container_ids", index).into(),
                        ..bad
                    })
                })
                .collect::<Result<_, _>>()?,
            labels: labels
                .map(|(index, wanted)| label(wanted, || format!("filter.labels[{index}].key")))
                .collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn has_namespace(&self, namespace: &Namespace) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }

    pub(super) fn has_id(&self, id: &ContainerId) -> bool {
        self.ids.is_empty() || self.ids.contains(id)
    }

    pub(super) fn has_labels(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|wanted| labels.may_have(wanted))
    }

    pub(super) fn includes(&self, container: &ContainerKey, labels: &Labels) -> bool {
        self.has_namespace(&container.namespace)
            && self.has_id(&container.id)
            && self.has_labels(labels)
    }
}

fn label(wanted: v1::Label, field: impl FnOnce() -> String) -> Result<WantedLabel, BadField> {
    let v1::Label { key, value } = wanted;
    if key.is_empty() || key.contains('=') {
        return Err(BadField::new(field(), "must not be empty, and must not contain '='"));
    }
    Ok(WantedLabel { key, value })
}

/// That of `types.API` has no name.
fn namespace(name: &str) -> Result<Namespace, BadField> {
    if name.is_empty() {
        return Ok(Namespace::TYPES_API);
    }
    Namespace::named(name).map_err(|error| BadField::new("namespace", error.to_string()))
}

fn container_id(id: &str) -> Result<ContainerId, BadField> {
    ContainerId::parse(id).map_err(|error| BadField::new("container_id", error.to_string()))
}

pub(super) fn key(namespace: &str, id: &str) -> Result<ContainerKey, BadField> {
    Ok(ContainerKey { namespace: self::namespace(namespace)?, id: container_id(id)? })
}

pub(super) fn process_id(id: &str) -> Result<ProcessId, BadField> {
    if id.is_empty() {
        return Ok(ProcessId::init());
    }
    ProcessId::parse(id).map_err(|error| BadField::new("process_id", error.to_string()))
}

pub(super) fn begin(begin: Option<Begin>) -> Result<From, BadField> {
    match begin {
        None => Ok(From::Now),
        Some(Begin::AfterCursor(cursor)) => Ok(From::After(position(&cursor)?)),
        Some(Begin::AfterTime(time)) => Ok(From::After(moment("after_time", &time)?)),
    }
}

/// The cursor of a place in the log, which is the time of the last event before that.
pub(super) fn cursor(position: Timestamp) -> String {
    format!("{:016x}", position.0)
}

fn position(cursor: &str) -> Result<Timestamp, BadField> {
    let digits = cursor.len() == 16 && cursor.bytes().all(|byte| byte.is_ascii_hexdigit());
    let position = digits.then(|| u64::from_str_radix(cursor, 16).ok()).flatten();
    let problem = || BadField::new("after_cursor", "is not one that this server has given");
    position.map(Timestamp).ok_or_else(problem)
}

pub(super) fn heartbeat(interval: Option<prost_types::Duration>) -> Result<Duration, BadField> {
    let Some(interval) = interval else { return Ok(HEARTBEAT) };
    let interval = Duration::try_from(interval).ok().filter(|time| HEARTBEATS.contains(time));
    let problem = || BadField::new("heartbeat_interval", "must be a second to an hour");
    interval.ok_or_else(problem)
}

pub(super) fn types(types: &[i32]) -> Result<Vec<v1::EventType>, BadField> {
    let known = |(index, number): (usize, &i32)| match v1::EventType::try_from(*number) {
        Ok(known) if known != v1::EventType::Unspecified => Ok(known),
        _ => Err(BadField::new(format!("types[{index}]"), format!("{number} is no type of event"))),
    };
    types.iter().enumerate().map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_place() {
        for at in [0, 1, 1_700_000_000_123_456_789, u64::MAX] {
            assert_eq!(position(&cursor(Timestamp(at))).unwrap(), Timestamp(at));
        }
        for bad in ["", "7", "+000000000000001", "0000000000000000g", "000000000000000g"] {
            assert_eq!(position(bad).unwrap_err().field, "after_cursor", "{bad}");
        }
    }

    #[test]
    fn heartbeats_are_neither_rare_nor_many() {
        let of = |seconds, nanos| heartbeat(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(heartbeat(None).unwrap(), HEARTBEAT);
        assert_eq!(of(1, 0).unwrap(), Duration::from_secs(1));
        for (seconds, nanos) in [(0, 0), (0, 999_999_999), (-5, 0), (3600, 1)] {
            assert_eq!(of(seconds, nanos).unwrap_err().field, "heartbeat_interval");
        }
    }

    #[test]
    fn a_container_has_each_label_that_is_asked_for() {
        let parse = |labels: &[(&str, Option<&str>)]| {
            let label = |(key, value): &(&str, Option<&str>)| v1::Label {
                key: (*key).to_owned(),
                value: value.map(str::to_owned),
            };
            let labels = labels.iter().map(label).collect();
            Wanted::parse(Some(v1::Filter { labels, ..v1::Filter::default() }))
        };
        let labels = Labels::of(&["a=1".to_owned(), "b=2".to_owned()].into());
        assert!(parse(&[("a", None), ("b", Some("2"))]).unwrap().has_labels(&labels));
        assert!(!parse(&[("a", None), ("b", Some("3"))]).unwrap().has_labels(&labels));
        let many = [("a", None); LABELS + 1];
        assert!(parse(&many[1..]).is_ok());
        assert_eq!(parse(&many).unwrap_err().field, "filter.labels");
        for bad in ["", "a=1"] {
            let refused = parse(&[("a", None), (bad, None)]).unwrap_err();
            assert_eq!(refused.field, "filter.labels[1].key");
        }
    }

    #[test]
    fn a_filter_names_what_is_wrong() {
        let parse = |namespaces: &[&str], ids: &[&str]| {
            let strings = |of: &[&str]| of.iter().map(|name| (*name).to_owned()).collect();
            Wanted::parse(Some(v1::Filter {
                namespaces: strings(namespaces),
                container_ids: strings(ids),
                labels: Vec::new(),
            }))
        };
        assert_eq!(parse(&["moby", "/"], &[]).unwrap_err().field, "filter.namespaces[1]");
        assert_eq!(parse(&[], &["a", "b", ""]).unwrap_err().field, "filter.container_ids[2]");
        let wanted = parse(&["", "moby"], &["a"]).unwrap();
        let includes = |wanted: &Wanted, namespace: &str, id: &str| {
            wanted.includes(&key(namespace, id).unwrap(), &Labels::default())
        };
        assert!(includes(&wanted, "", "a") && includes(&wanted, "moby", "a"));
        assert!(!includes(&wanted, "other", "a") && !includes(&wanted, "", "b"));
        assert!(includes(&parse(&[], &[]).unwrap(), "any", "any"));
        assert_eq!(types(&[3, 0]).unwrap_err().field, "types[1]");
        assert_eq!(types(&[99]).unwrap_err().field, "types[0]");
    }
}
