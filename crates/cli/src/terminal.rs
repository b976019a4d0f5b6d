//! The user's terminal: its size, and raw mode for as long as the guard lives.

use std::io::{self, IsTerminal};

use gantry_client::ConsoleSize;
use rustix::termios::{self, OptionalActions, Termios};

/// Keeps the terminal raw; dropping it gives the user's settings back.
#[derive(Debug)]
pub(crate) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Every key goes to the container as it is, ctrl-c included.
    pub(crate) fn enter() -> io::Result<RawMode> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(RawMode { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring. One that was stopped (ctrl-s) is not waited for.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// The size of the terminal that output goes to, if it is one.
pub(crate) fn size() -> Option<ConsoleSize> {
    let size =
        termios::tcgetwinsize(io::stdout()).or_else(|_| termios::tcgetwinsize(io::stdin())).ok()?;
    let (width, height) = (u32::from(size.ws_col), u32::from(size.ws_row));
    (width > 0 && height > 0).then_some(ConsoleSize { width, height })
}
