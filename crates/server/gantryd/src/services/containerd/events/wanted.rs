//! Which events are delivered to a subscriber.

use std::time::SystemTime;

use gantry_api::containerd::types::Envelope;
use gantry_domain::{Event, EventKind, Timestamp};
use gantry_events::Entry;
use gantry_store::filter::Filters;

use super::{envelope, fields::field};

/// In nanoseconds: shorter than any program takes from its start to its subscription, and longer than a tick of the
/// clock of process start times.
const BEGINS: u64 = 100_000_000;

/// What one subscriber wants.
pub(super) struct Wanted {
    filters: Filters,
    /// When the subscriber's process began, if that is known.
    began: Option<Timestamp>,
    /// When it subscribed.
    subscribed: Timestamp,
}

impl Wanted {
    /// Of somebody who subscribes now.
    pub(super) fn new(filters: Filters, began: Option<Timestamp>) -> Self {
        Self { filters, began, subscribed: SystemTime::now().into() }
    }

    /// The event as it is delivered; none if it is not.
    pub(super) fn of(&self, entry: &Entry) -> Option<Envelope> {
        match entry {
            Entry::Container(event) => self.of_container(event),
            Entry::Published(published) => self.matching(envelope::of_published(published)),
        }
    }

    /// As [`Self::of`].
    pub(super) fn of_container(&self, event: &Event) -> Option<Envelope> {
        if self.is_known(event) {
            return None;
        }
        self.matching(envelope::of_container(event))
    }

    /// Whether the subscriber knows of an exit already. A program that was started after the exit lists its tasks, and
    /// an exit event from before would mislead it: Docker 29 then never removes the task's container from the server.
    /// A program that was running at the exit does not list them.
    fn is_known(&self, event: &Event) -> bool {
        let happened = match &event.kind {
            EventKind::Exited { exit, .. } => exit.at,
            _ => event.at,
        };
        event.at < self.subscribed
            && self.began.is_some_and(|began| happened.0 < began.0.saturating_add(BEGINS))
    }

    fn matching(&self, envelope: Envelope) -> Option<Envelope> {
        self.filters.matches(&|path| field(&envelope, path)).then_some(envelope)
    }
}

#[cfg(test)]
mod tests {
    use gantry_domain::{
        ContainerId, ContainerKey, Exit, ExitStatus, Generation, Namespace, ProcessId,
    };

    use super::*;

    fn moment(number: u64) -> Timestamp {
        Timestamp(number * BEGINS)
    }

    fn event(at: u64, exited: Option<u64>) -> Event {
        let generation = Generation(1);
        let kind = match exited {
            Some(at) => EventKind::Exited {
                process: ProcessId::init(),
                generation,
                pid: 7,
                exit: Exit { status: ExitStatus::Code(0), at: moment(at) },
            },
            None => EventKind::OutOfMemory,
        };
        let namespace = Namespace::named("ns").unwrap();
        let container = ContainerKey { namespace, id: ContainerId::parse("a").unwrap() };
        Event {
            at: moment(at),
            container,
            generation,
            labels: gantry_domain::Labels::default(),
            kind,
        }
    }

    #[test]
    fn exits_from_before_the_process_began_are_left_out() {
        let is_delivered = |began: Option<u64>, event: &Event| {
            let filters = Filters::parse::<String>(&[]).unwrap();
            let wanted = Wanted { filters, began: began.map(moment), subscribed: moment(30) };
            wanted.of_container(event).is_some()
        };
        for (began, at, exited, expected) in [
            (None, 10, Some(10), true),
            (Some(20), 10, Some(10), false),
            (Some(20), 10, None, false),
            (Some(5), 10, Some(10), true),
            (Some(5), 10, None, true),
            // The server learned of the exit before and after the subscription.
            (Some(20), 25, Some(10), false),
            (Some(20), 35, Some(10), true),
            (Some(20), 35, Some(35), true),
            (Some(20), 25, Some(22), true),
            // While a process begins.
            (Some(20), 25, Some(20), false),
        ] {
            assert_eq!(
                is_delivered(began, &event(at, exited)),
                expected,
                "{began:?} {at} {exited:?}"
            );
        }
    }
}
