//! How long a container that has ended waits for its restart.

use std::time::Duration;

/// Before the first restart. Within this time a client that has ended the container itself deletes the task or
/// changes the labels.
const FIRST: Duration = Duration::from_millis(200);

/// At most: a container that ends at once is restarted once a minute.
const LONGEST: Duration = Duration::from_secs(60);

/// After a run of this length the pauses start over: waiting longer would not help.
const LASTED: Duration = Duration::from_secs(10);

/// The pauses of one container, each twice as long as the one before.
#[derive(Debug)]
pub(super) struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Pauses {
    /// Notes that the container has ended after running for so long.
    pub(super) fn ended_after(&mut self, ran: Duration) {
        if ran >= LASTED {
            self.next = FIRST;
        }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = LONGEST.min(pause * 2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_shrink_after_a_run_that_lasted() {
        let mut pauses = Pauses::default();
        let first: Vec<_> = (0..12).map(|_| pauses.next()).collect();
        assert_eq!(first[..3], [FIRST, 2 * FIRST, 4 * FIRST]);
        assert_eq!(first[11], LONGEST);
        pauses.ended_after(LASTED / 2);
        assert_eq!(pauses.next(), LONGEST);
        pauses.ended_after(LASTED);
        assert_eq!(pauses.next(), FIRST);
    }
}
