//! What each process may end with, and whether the events say so: every process that was reported
//! as started ends once, with one of these.

use std::{collections::HashSet, fmt};

use gantry_api::{INIT, event_type, types::Event};

use crate::kills::{Kills, Moment};

/// The status on the wire of an unknown exit.
const UNKNOWN: u32 = 255;

/// How a process may end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    /// Its own way, if it does not run until it is killed.
    pub(crate) own: Option<u32>,
    /// What the test does to it, and the end of its container.
    pub(crate) forced: Vec<u32>,
}

/// A process that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) process: String,
    pub(crate) expected: Expected,
    /// The server has said that it exists. One whose caller was left without an answer may have
    /// existed or not.
    pub(crate) known: bool,
    /// Before its first call. Its shim may be killed before its start is reported.
    pub(crate) asked_at: Moment,
}

/// A container that was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    pub(crate) init: Attempt,
    pub(crate) execs: Vec<Attempt>,
}

/// All that was asked for under one id.
#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) id: String,
    pub(crate) lives: Vec<Life>,
    pub(crate) cut_calls: usize,
}

/// A process, as its events show it.
struct Observed {
    process: String,
    start: Moment,
    end: Moment,
    status: u32,
}

/// A container, as its events show it.
struct ObservedLife {
    init: Observed,
    execs: Vec<Observed>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    lives: usize,
    execs: usize,
    unknown: usize,
    cut_calls: usize,
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.lives += other.lives;
        self.execs += other.execs;
        self.unknown += other.unknown;
        self.cut_calls += other.cut_calls;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lives, execs, unknown, cut_calls } = self;
        write!(
            f,
            "{lives} containers and {execs} execs ended, {unknown} with a status that was lost \
             with shim and server; {cut_calls} calls cut"
        )
    }
}

/// Checks the events of one id against what was asked for.
pub(crate) fn check(history: &History, events: &[Event], kills: &Kills) -> Result<Counts, String> {
    let observed = lives(events)?;
    let judge = Judge { id: &history.id, kills };
    let mut matching = Matching {
        judge,
        asked: &history.lives,
        observed: &observed,
        hopeless: HashSet::new(),
        problem: (0, String::new()),
    };
    if !matching.is_possible(0, 0) {
        return Err(matching.problem.1);
    }
    let execs = observed.iter().map(|life| life.execs.len()).sum();
    let all = observed.iter().flat_map(|life| life.execs.iter().chain([&life.init]));
    let unknown = all.filter(|observed| observed.status == UNKNOWN).count();
    Ok(Counts { lives: observed.len(), execs, unknown, cut_calls: history.cut_calls })
}

/// Matches observed containers with those that were asked for, both in order. One whose creation was not confirmed may
/// be missing; if a status was lost, finding the match can take several attempts.
struct Matching<'a> {
    judge: Judge<'a>,
    asked: &'a [Life],
    observed: &'a [ObservedLife],
    /// Pairs that were tried without success.
    hopeless: HashSet<(usize, usize)>,
    /// Where the best attempt ended, and why.
    problem: (usize, String),
}

impl Matching<'_> {
    /// Whether the rest of both can be matched.
    fn is_possible(&mut self, asked: usize, observed: usize) -> bool {
        if self.hopeless.contains(&(asked, observed)) {
            return false;
        }
        let problem = match (self.asked.get(asked), self.observed.get(observed)) {
            (None, None) => return true,
            (None, Some(life)) => {
                Some(format!("nobody asked for the container of {}", life.init.start))
            }
            (Some(candidate), None) => Some(format!("lost: {candidate:?}")),
            (Some(candidate), Some(life)) => match self.judge.explains(candidate, life) {
                Ok(()) if self.is_possible(asked + 1, observed + 1) => return true,
                // The problem is further on.
                Ok(()) => None,
                Err(problem) => Some(format!("{problem}; asked for {candidate:?}")),
            },
        };
        let may_be_missing = self.asked.get(asked).is_some_and(|candidate| !candidate.init.known);
        if may_be_missing && self.is_possible(asked + 1, observed) {
            return true;
        }
        self.hopeless.insert((asked, observed));
        if let Some(problem) = problem
            && observed >= self.problem.0
            && !may_be_missing
        {
            self.problem = (observed, problem);
        }
        false
    }
}

struct Judge<'a> {
    id: &'a str,
    kills: &'a Kills,
}

impl Judge<'_> {
    fn explains(&self, asked: &Life, observed: &ObservedLife) -> Result<(), String> {
        self.fits(&asked.init, &observed.init)?;
        // Two calls may be under way at once, if the caller of one is gone.
        let mut asked: Vec<&Attempt> = asked.execs.iter().collect();
        for exec in &observed.execs {
            let same = |other: &&Attempt| other.process == exec.process;
            let found = asked.iter().position(same);
            let found = found.ok_or_else(|| format!("nobody asked for {}", exec.process))?;
            self.fits(asked.remove(found), exec)?;
        }
        match asked.into_iter().find(|exec| exec.known) {
            Some(lost) => Err(format!("lost: {lost:?}")),
            None => Ok(()),
        }
    }

    fn fits(&self, asked: &Attempt, observed: &Observed) -> Result<(), String> {
        let Observed { process, end, status, .. } = observed;
        let names = (self.id, process.as_str());
        let time = (asked.asked_at, *end);
        let Expected { own, forced } = &asked.expected;
        // A process that nobody ends and that does not end by itself must not have ended.
        let ends = own.is_some() || !forced.is_empty();
        let allowed = *own == Some(*status)
            || forced.contains(status)
            || *status == UNKNOWN && ends && self.kills.may_be_unknown(names, time);
        if *process == asked.process && allowed {
            return Ok(());
        }
        Err(format!("{process} ended with {status} at {end}, asked for {asked:?}"))
    }
}

/// The lives in a container's events, which were seen to be in order before.
fn lives(events: &[Event]) -> Result<Vec<ObservedLife>, String> {
    let mut lives = Vec::new();
    let mut started: Vec<(String, Moment)> = Vec::new();
    let mut execs = Vec::new();
    for event in events {
        let process = event.pid.clone();
        match event.r#type.as_str() {
            event_type::START_CONTAINER => started.push((INIT.to_owned(), moment(event))),
            event_type::START_PROCESS => started.push((process, moment(event))),
            event_type::EXIT => {
                let found = started.iter().position(|(started, _)| *started == process);
                let found = found.ok_or_else(|| format!("an exit without a start: {event:?}"))?;
                let (process, start) = started.swap_remove(found);
                let observed =
                    Observed { process, start, end: moment(event), status: event.status };
                if observed.process == INIT {
                    lives.push(ObservedLife { init: observed, execs: std::mem::take(&mut execs) });
                } else {
                    execs.push(observed);
                }
            }
            _ => {}
        }
    }
    if started.is_empty() { Ok(lives) } else { Err(format!("without an exit: {started:?}")) }
}

fn moment(event: &Event) -> Moment {
    let (seconds, nanos) = gantry_tests::events::time(event);
    let seconds = u128::try_from(seconds).expect("after 1970");
    seconds * 1_000_000_000 + u128::try_from(nanos).expect("a part of a second")
}

mod tests {
    use gantry_api::Timestamp;

    use super::*;

    /// Containers without execs: what each is to end with, and whether it is known to have been.
    fn asked(lives: &[(u32, bool)]) -> History {
        let life = |&(own, known): &(u32, bool)| Life {
            init: Attempt {
                process: INIT.to_owned(),
                expected: Expected { own: Some(own), forced: Vec::new() },
                known,
                asked_at: 0,
            },
            execs: Vec::new(),
        };
        let lives = lives.iter().map(life).collect();
        History { id: "c".to_owned(), lives, cut_calls: 0 }
    }

    /// The events of containers that ended so; the whole time shim and server were being killed.
    fn problem(asked: &History, statuses: &[u32]) -> Option<String> {
        let mut kills = Kills::default();
        let mut events = Vec::new();
        for (second, status) in (1_i64..).zip(statuses) {
            for (kind, nanos) in [(event_type::START_CONTAINER, 1), (event_type::EXIT, 3)] {
                events.push(Event {
                    r#type: kind.to_owned(),
                    id: "c".to_owned(),
                    pid: if kind == event_type::EXIT { INIT } else { "" }.to_owned(),
                    status: if kind == event_type::EXIT { *status } else { 0 },
                    timestamp: Some(Timestamp { seconds: second, nanos }),
                });
            }
            let killed = Moment::try_from(second).expect("positive") * 1_000_000_000 + 2;
            kills.servers.push(killed);
            kills.shims.push(("c".to_owned(), INIT.to_owned(), killed));
        }
        check(asked, &events, &kills).err()
    }

    #[test]
    fn what_fits() {
        let asked = asked(&[(3, true), (4, false), (5, true)]);
        assert_eq!(problem(&asked, &[3, 4, 5]), None);
        assert_eq!(problem(&asked, &[3, 5]), None, "the second never was");
    }

    #[test]
    fn a_lost_status_may_be_that_of_several() {
        assert_eq!(problem(&asked(&[(3, false), (4, true), (5, true)]), &[255, 5]), None);
        assert_eq!(problem(&asked(&[(3, false), (4, true), (5, true)]), &[255, 4, 5]), None);
    }

    #[test]
    fn what_does_not_fit() {
        let asked = asked(&[(3, true), (4, false), (5, true)]);
        for (statuses, words) in [
            (&[3, 4][..], "lost"),
            (&[3, 4, 5, 5], "nobody asked"),
            (&[3, 4, 6], "ended with 6"),
            (&[4, 5], "ended with 4"),
            (&[3, 3, 5], "ended with 3"),
        ] {
            let problem = problem(&asked, statuses).expect("a problem");
            assert!(problem.contains(words), "{statuses:?}: {problem}");
        }
    }
}
