//! Keys that end a table that is drawn again and again, and the terminal's settings meanwhile.

use std::{io, process::ExitCode};

use tokio::{
    io::AsyncReadExt,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    failure::exit_code,
    session::KILLED_BY,
    terminal::{self, RawMode},
};

/// What ctrl-c and ctrl-d send to a program that has the terminal raw.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;

/// Waits for the wish to end. Dropping it gives the user's settings of the terminal back.
pub(super) struct Keys {
    _raw: RawMode,
    signals: [Signal; 4],
}

impl Keys {
    /// None if nobody can type anything: there are no settings to give back, and signals end this program by themselves.
    pub(super) fn catch() -> io::Result<Option<Self>> {
        if !terminal::stdin_is_terminal() {
            return Ok(None);
        }
        let signals = [
            signal(SignalKind::hangup())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::quit())?,
            signal(SignalKind::terminate())?,
        ];
        Ok(Some(Self { _raw: RawMode::enter()?, signals }))
    }

    /// Ends when the user wants to, with the exit status for that. Nothing is lost if it is dropped.
    pub(super) async fn ended(&mut self) -> ExitCode {
        let [hangup, interrupt, quit, terminate] = &mut self.signals;
        let kind = tokio::select! {
            // The end of a terminal is a signal, too.
            biased;
            _ = hangup.recv() => SignalKind::hangup(),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = quit.recv() => SignalKind::quit(),
            _ = terminate.recv() => SignalKind::terminate(),
            () = typed() => return ExitCode::SUCCESS,
        };
        exit_code(KILLED_BY + kind.as_raw_value().unsigned_abs())
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
