//! The harness of the end-to-end tests: starts a real server with a private socket, state
//! directory, runtime root and cgroup, drives it through the contract's own stubs, and checks that
//! nothing is left when a test is done.
//!
//! Environment:
//! - `GANTRYD`, `GANTRY_SHIM`, `GANTRY`: the binaries under test; by default those beside the test
//!   executable's own target directory. A `GANTRYD` named `containerd` is taken for the original
//!   containerd 0.2 and started with its flags; `GANTRY_SHIM` is its shim then.
//! - `GANTRY_VARIANTS`: where other builds are, see [`variants`]; by default in the target directory.
//! - `GANTRY_TEST_ADDRESS`: path of the socket of a server that already runs; tests that need to
//!   start their own are skipped, and say so.
//! - `GANTRY_TEST_NO_PIVOT=1`: containers are created with `noPivotRoot`.
//! - `GANTRY_TEST_STRICT=1`: a test that cannot run here fails instead of being skipped.

pub mod bundle;
pub mod cgroup;
pub mod container;
pub mod dead_mount;
pub mod disk;
pub mod docker_registry;
pub mod events;
pub mod leftovers;
pub mod otlp;
pub mod pipes;
pub mod process;
pub mod processes;
pub mod programs;
pub mod reading;
pub mod runtime;
pub mod server;
pub mod service;
pub mod status;
pub mod terminal;
pub mod variants;

use std::{future::Future, io::Write, time::Duration};

pub use container::{Container, NewContainer};
pub use process::Process;
pub use runtime::Runtime;
pub use server::Server;
pub use variants::Variant;

/// How long anything that must happen may take before the test fails: ample, since other tests
/// run beside it, and never waited for in full when all is well.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for what must happen.
///
/// # Panics
/// When it has not happened in time.
pub async fn patiently<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// Waits for something that can only be looked at, such as a file of /proc.
///
/// # Panics
/// When it has not become true in time.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    patiently(what, looking).await;
}

/// Whether the server under test is the original containerd, which is known to fail the current
/// test, and says so: these are the tests of what Gantry does better.
#[must_use]
pub fn improves(on_what: &str) -> bool {
    if programs::is_incumbent() {
        skip(&format!("an improvement: {on_what}"));
    }
    programs::is_incumbent()
}

/// Says on the terminal, past the test runner's capture, that the current test cannot run here.
///
/// # Panics
/// When skipping is forbidden by `GANTRY_TEST_STRICT`.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    assert!(std::env::var_os("GANTRY_TEST_STRICT").is_none(), "{test} cannot run: {why}");
    // eprintln! would be captured.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}
