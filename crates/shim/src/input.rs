//! Carries input from the caller's pipe to the process.

use crate::poll::EventFlags;
use crate::pump::{Pump, Step};

/// Bytes from the caller, and how the process gets their end.
pub(crate) struct Input {
    pump: Pump,
    /// The caller has written all.
    closing: bool,
    /// A terminal has no end of file, but a character that is typed for it.
    eof_char: Option<u8>,
}

impl Input {
    pub(crate) fn new(pump: Pump, eof_char: Option<u8>) -> Self {
        Self { pump, closing: false, eof_char }
    }

    /// Ends the input once everything in the caller's pipe is delivered.
    #[must_use]
    pub(crate) fn close(mut self) -> Option<Self> {
        self.closing = true;
        self.pump.hurry();
        self.carry(EventFlags::empty())
    }

    /// Carries what can be carried now; `None` at the end of the input.
    #[must_use]
    pub(crate) fn carry(mut self, flags: EventFlags) -> Option<Self> {
        // On a pipe's writing end: the process has closed its input.
        if flags.contains(EventFlags::ERR) {
            return None;
        }
        match self.pump.step() {
            Step::Moved(_) | Step::Full => Some(self),
            Step::Starved if !self.closing => Some(self),
            Step::Starved | Step::Ended => self.finish(),
            Step::Broken => None,
        }
    }

    fn finish(mut self) -> Option<Self> {
        let eof = self.eof_char.take()?;
        // Within a line the character only submits what was typed so far, see termios(3).
        let ended = matches!(self.pump.last(), None | Some(b'\n' | b'\r'));
        self.pump.push(&[eof, eof][usize::from(ended)..]);
        self.close()
    }
}
