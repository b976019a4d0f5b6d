//! What each process may end with, and whether the events say so: every process that was reported
//! as started ends once, with one of these.

use std::fmt;

use gantry_api::{INIT, event_type, types::Event};

use crate::kills::{Kills, Moment};

/// The wire's word for a status that nobody knows.
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

/// What the events tell of a process.
struct Told {
    process: String,
    start: Moment,
    end: Moment,
    status: u32,
}

/// What the events tell of a container.
struct ToldLife {
    init: Told,
    execs: Vec<Told>,
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
    let told = lives(events)?;
    let mut counts =
        Counts { lives: told.len(), cut_calls: history.cut_calls, ..Counts::default() };
    let mut lives = history.lives.iter();
    for life in &told {
        let judge = Judge { id: &history.id, kills };
        let of_nobody = || format!("nobody asked for the container of {}", life.init.start);
        loop {
            let candidate = lives.next().ok_or_else(of_nobody)?;
            match judge.explains(candidate, life) {
                Ok(()) => break,
                Err(problem) if candidate.init.known => {
                    return Err(format!("{problem}; asked for {candidate:?}"));
                }
                Err(_) => {}
            }
        }
        counts.execs += life.execs.len();
        let all = life.execs.iter().chain([&life.init]);
        counts.unknown += all.filter(|told| told.status == UNKNOWN).count();
    }
    match lives.find(|life| life.init.known) {
        Some(lost) => Err(format!("lost: {lost:?}")),
        None => Ok(counts),
    }
}

struct Judge<'a> {
    id: &'a str,
    kills: &'a Kills,
}

impl Judge<'_> {
    fn explains(&self, asked: &Life, told: &ToldLife) -> Result<(), String> {
        self.fits(&asked.init, &told.init)?;
        // Two calls may be under way at once, if the caller of one is gone.
        let mut asked: Vec<&Attempt> = asked.execs.iter().collect();
        for exec in &told.execs {
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

    fn fits(&self, asked: &Attempt, told: &Told) -> Result<(), String> {
        let Told { process, start, end, status } = told;
        let names = (self.id, process.as_str());
        let Expected { own, forced } = &asked.expected;
        let allowed = *own == Some(*status)
            || forced.contains(status)
            || *status == UNKNOWN && self.kills.may_be_unknown(names, (*start, *end));
        if *process == asked.process && allowed {
            return Ok(());
        }
        Err(format!("{process} ended with {status} at {end}, asked for {asked:?}"))
    }
}

/// The lives in a container's events, which were seen to be in order before.
fn lives(events: &[Event]) -> Result<Vec<ToldLife>, String> {
    let mut lives = Vec::new();
    let mut started: Vec<(String, Moment)> = Vec::new();
    let mut execs = Vec::new();
    for event in events {
        let process = event.pid.clone();
        match event.r#type.as_str() {
            event_type::START_CONTAINER | event_type::START_PROCESS => {
                started.push((process, moment(event)));
            }
            event_type::EXIT => {
                let found = started.iter().position(|(started, _)| *started == process);
                let found = found.ok_or_else(|| format!("an exit without a start: {event:?}"))?;
                let (process, start) = started.swap_remove(found);
                let told = Told { process, start, end: moment(event), status: event.status };
                if told.process == INIT {
                    lives.push(ToldLife { init: told, execs: std::mem::take(&mut execs) });
                } else {
                    execs.push(told);
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
