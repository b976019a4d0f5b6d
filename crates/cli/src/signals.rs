//! Signals that this process gets and passes on to the container.

use std::io;

use gantry_client::Signal;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

/// Not SIGCHLD, SIGPIPE and SIGWINCH, which are about this process and its terminal.
const FORWARDED: [Signal; 7] = [
    Signal::HUP,
    Signal::INT,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
    Signal::TERM,
    Signal::CONT,
];

/// Catches the signals from now on, so that none of them ends this process.
pub(crate) fn catch() -> io::Result<mpsc::UnboundedReceiver<Signal>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    for forwarded in FORWARDED {
        let number = i32::try_from(forwarded.number()).map_err(io::Error::other)?;
        let mut caught = signal(SignalKind::from_raw(number))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while caught.recv().await.is_some() && sender.send(forwarded).is_ok() {}
        });
    }
    Ok(receiver)
}
