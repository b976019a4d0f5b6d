//! How long calls of runtimes take, by command and outcome.

use std::time::{Duration, Instant};

use gantry_measures::{Distribution, Histogram};

use super::{OciError, Verb};

/// The calls of runtimes since the server was started, those that shims have made among them.
#[derive(Debug, Default)]
pub struct RuntimeCalls([[Histogram; Outcome::ALL.len()]; Verb::ALL.len()]);

/// How a call has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The runtime has done what it was to do.
    Done,
    /// It has failed, or could not be called.
    Failed,
    /// It has not ended in time.
    Late,
    /// Its caller has given it up.
    GivenUp,
}

/// Calls of one command that have ended alike.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredCalls {
    /// The command.
    pub verb: Verb,
    /// How they have ended.
    pub outcome: Outcome,
    /// How long they took.
    pub durations: Distribution,
}

/// A call under way. If it is dropped before its end was told, its caller has given it up.
#[derive(Debug)]
pub struct Measuring<'a> {
    calls: &'a RuntimeCalls,
    verb: Verb,
    began: Instant,
    outcome: Outcome,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Done, Self::Failed, Self::Late, Self::GivenUp];

    /// That of a call with this result.
    pub fn of<T>(result: &Result<T, OciError>) -> Self {
        match result {
            Ok(_) => Self::Done,
            Err(OciError::Deadline { .. }) => Self::Late,
            Err(_) => Self::Failed,
        }
    }
}

impl RuntimeCalls {
    /// A call begins.
    pub fn begin(&self, verb: Verb) -> Measuring<'_> {
        Measuring { calls: self, verb, began: Instant::now(), outcome: Outcome::GivenUp }
    }

    fn add(&self, verb: Verb, outcome: Outcome, duration: Duration) {
        self.0[verb as usize][outcome as usize].add(duration);
    }

    /// What was called so far: of each command and outcome that there was.
    pub fn read(&self) -> Vec<MeasuredCalls> {
        let all = Verb::ALL.iter().zip(&self.0).flat_map(|(verb, outcomes)| {
            Outcome::ALL.iter().zip(outcomes).map(|(outcome, histogram)| MeasuredCalls {
                verb: *verb,
                outcome: *outcome,
                durations: histogram.read(),
            })
        });
        all.filter(|calls| calls.durations.count() > 0).collect()
    }
}

impl Measuring<'_> {
    /// The call has ended so.
    pub fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Measuring<'_> {
    fn drop(&mut self) {
        self.calls.add(self.verb, self.outcome, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_command_and_outcome() {
        let calls = RuntimeCalls::default();
        let ended = |verb, result: Result<(), OciError>| {
            calls.begin(verb).end(Outcome::of(&result));
        };
        ended(Verb::Run, Ok(()));
        ended(Verb::Run, Ok(()));
        let late = OciError::Deadline { verb: Verb::Delete, after: Duration::ZERO };
        ended(Verb::Delete, Err(late));
        ended(Verb::Features, Err(OciError::Wordless { code: 1, more: String::new() }));
        drop(calls.begin(Verb::Exec));
        let read = calls.read();
        let read: Vec<_> =
            read.iter().map(|it| (it.verb, it.outcome, it.durations.count())).collect();
        let expected = [
            (Verb::Run, Outcome::Done, 2),
            (Verb::Exec, Outcome::GivenUp, 1),
            (Verb::Delete, Outcome::Late, 1),
            (Verb::Features, Outcome::Failed, 1),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn every_command_has_its_place() {
        for (at, verb) in Verb::ALL.into_iter().enumerate() {
            assert_eq!(verb as usize, at);
        }
    }
}
