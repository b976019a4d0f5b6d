//! Keys that end a table that is drawn again and again, and the terminal's settings meanwhile.

use std::io;

use tokio::{
    io::AsyncReadExt,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::terminal::{self, RawMode};

/// What ctrl-c and ctrl-d send to a program that has the terminal raw.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Waits for the wish to end. Dropping it gives the user's settings of the terminal back.
pub(super) struct Keys {
    /// None if nobody can type anything.
    raw: Option<RawMode>,
    signals: [Signal; 3],
}

impl Keys {
    pub(super) fn catch(is_terminal: bool) -> io::Result<Self> {
        let signals = [
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ];
        let has_keys = is_terminal && terminal::stdin_is_terminal();
        Ok(Self { raw: has_keys.then(RawMode::enter).transpose()?, signals })
    }

    /// Ends when the user wants to. Nothing is lost if it is dropped.
    pub(super) async fn ended(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        let has_keys = self.raw.is_some();
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
            () = typed(), if has_keys => {}
        }
    }
}

/// Ends when a key was typed that ends it, or nobody can type any more.
async fn typed() {
    let mut keys = [0; 16];
    let mut stdin = tokio::io::stdin();
    while let Ok(count @ 1..) = stdin.read(&mut keys).await {
        if keys[..count].iter().any(|key| matches!(*key, b'q' | CTRL_C | CTRL_D)) {
            return;
        }
    }
}
