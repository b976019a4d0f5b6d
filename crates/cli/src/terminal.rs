//! The user's terminal: its size, and raw mode for as long as the guard lives.

use std::{
    io::{self, IsTerminal},
    panic,
    sync::{Mutex, Once, PoisonError},
};

use gantry_client::ConsoleSize;
use rustix::termios::{self, OptionalActions, Termios};

/// The user's settings while the terminal is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps the terminal raw; dropping it gives the user's settings back, and so does a panic.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Every key goes to the container as it is, ctrl-c included.
    pub(crate) fn enter() -> io::Result<RawMode> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        restore_on_panic();
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let guard = RawMode(());
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(guard)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore(BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

fn restore(before: Option<Termios>) {
    if let Some(before) = before {
        // A terminal that is gone needs no restoring. One that was stopped (ctrl-s) is not waited for.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// A panic of a released program drops nothing. The settings come before the message, which would be a staircase.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // Whoever holds it for a moment may be the thread that panics.
            restore(BEFORE.try_lock().ok().and_then(|mut before| before.take()));
            print(panic);
        }));
    });
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
