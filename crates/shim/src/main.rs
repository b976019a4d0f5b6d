//! gantry-shim: starts one process through an OCI runtime and stays until its exit is known.
//!
//! The server starts it in the process's directory with one end of a socket pair as standard
//! input, see [`gantry_shim_proto`]. One thread, one epoll loop, nothing polled.

mod children;
mod console;
mod input;
mod launch;
mod linger;
mod link;
mod logger;
mod poll;
mod printed;
mod pump;
mod setup;
mod shim;
mod state;
mod stdio;
mod streams;
mod sys;
mod title;

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-shim: {error} (it is started by gantryd, not by hand)");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let signals = setup::become_shim()?;
    shim::Shim::new(signals, title::Title::take())?.run()
}
