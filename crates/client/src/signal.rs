//! Signals by name and number, see signal(7).

use std::{fmt, str::FromStr};

/// A signal number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(u32);

/// Names and numbers as on x86-64 and arm64; the first of two names is the one displayed.
const NAMES: [(&str, u32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];
/// The first real-time signal that programs see: glibc keeps 32 and 33 for itself.
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

impl Signal {
    /// Hang-up of the controlling terminal.
    pub const HUP: Signal = Signal(1);
    /// Interrupt from the keyboard.
    pub const INT: Signal = Signal(2);
    /// Quit from the keyboard.
    pub const QUIT: Signal = Signal(3);
    /// Cannot be caught.
    pub const KILL: Signal = Signal(9);
    /// For the program to define.
    pub const USR1: Signal = Signal(10);
    /// For the program to define.
    pub const USR2: Signal = Signal(12);
    /// The polite request to end.
    pub const TERM: Signal = Signal(15);
    /// Continue after a stop.
    pub const CONT: Signal = Signal(18);

    /// The signal with this number, if there is one.
    pub fn from_number(number: u32) -> Option<Signal> {
        (1..=RTMAX).contains(&number).then_some(Signal(number))
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// A word that names no signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no signal: want a name such as TERM or SIGTERM, or a number from 1 to 64")]
pub struct UnknownSignal(String);

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Accepts `TERM`, `SIGTERM`, `term`, `15`, `RTMIN`, `RTMIN+3` and `RTMAX-3`.
    fn from_str(word: &str) -> Result<Signal, UnknownSignal> {
        let unknown = || UnknownSignal(word.to_owned());
        if let Ok(number) = word.parse() {
            return Signal::from_number(number).ok_or_else(unknown);
        }
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let known = NAMES.iter().find(|(n, _)| *n == name).map(|(_, number)| *number);
        known.or_else(|| real_time(name)).map(Signal).ok_or_else(unknown)
    }
}

fn real_time(name: &str) -> Option<u32> {
    let number = if let Some(offset) = name.strip_prefix("RTMIN") {
        RTMIN.checked_add(distance(offset, '+')?)?
    } else {
        RTMAX.checked_sub(distance(name.strip_prefix("RTMAX")?, '-')?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

fn distance(offset: &str, sign: char) -> Option<u32> {
    if offset.is_empty() { Some(0) } else { offset.strip_prefix(sign)?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_kill_accepts() {
        for word in ["TERM", "SIGTERM", "term", "sigterm", "15"] {
            assert_eq!(word.parse(), Ok(Signal::TERM), "{word}");
        }
        assert_eq!("RTMIN+3".parse(), Ok(Signal(37)));
        assert_eq!("SIGRTMAX-1".parse(), Ok(Signal(63)));
    }

    #[test]
    fn refuses_the_rest() {
        for word in [
            "",
            "0",
            "65",
            "-1",
            "SIG",
            "NOSUCH",
            "RTMIN+99",
            "RTMAX-99",
            "RTMIN-1",
            "RTMIN+4294967295",
        ] {
            assert!(word.parse::<Signal>().is_err(), "{word}");
        }
    }

    #[test]
    fn displays_the_usual_name() {
        assert_eq!(Signal(6).to_string(), "SIGABRT");
        assert_eq!(Signal(34).to_string(), "signal 34");
    }
}
