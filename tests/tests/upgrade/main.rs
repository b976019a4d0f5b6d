//! This version takes over what an earlier one has left: its state directory, its journal, and its shims
//! with their processes. The way back is not promised.
//!
//! Needs gantryd and gantry-shim of the earlier version, which `tests/old-version.sh` builds.

mod after;
mod before;
mod half_made;
mod undelivered;

use std::{fs, time::SystemTime};

use Runtime::{Crun, Runc};
use gantry_tests::{
    Runtime, Server, Variant, improves,
    server::Setup,
    service::connect,
    variants::{self, EARLIER},
};
use rstest::rstest;
use rustix::process::Signal;

use crate::before::Before;

/// A server of the earlier version that is to be started. `None`, after saying so, if it was not built.
fn earlier(runtime: Runtime) -> Option<Setup> {
    if improves("the original's state is not taken over") {
        return None;
    }
    variants::find(EARLIER).map(|variant| Server::setup(runtime).variant(&variant))
}

/// Starts this version where a server of the earlier one was, with more arguments.
async fn upgrade(server: &mut Server, arguments: &[&str]) {
    let this = Variant::under_test();
    server.start_again_as(&this, arguments).await;
    assert_eq!(program(server), fs::canonicalize(this.server).unwrap());
}

/// What the server's process runs.
fn program(server: &Server) -> std::path::PathBuf {
    fs::read_link(format!("/proc/{}/exe", server.pid())).unwrap()
}

#[rstest]
#[tokio::test]
async fn all_of_the_earlier_version_is_taken_over(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(Signal::TERM, Signal::KILL)] signal: Signal,
) {
    let Some(setup) = earlier(runtime) else { return };
    let Some(mut server) = setup.arguments(&["--linger", "10m"]).start().await else { return };
    assert!(program(&server).ends_with(format!("{EARLIER}/gantryd")));
    let mut before = Before::make(&server).await;
    let ended = SystemTime::now();
    server.end(signal).await;
    before.go_on_without_server().await;
    upgrade(&mut server, &[]).await;
    after::events_are_replayed(&server, &before, ended.into()).await;
    server.service.events.begin_again(connect(&server.service.socket)).await;
    after::exits_of_the_meantime_are_published(&server, &before).await;
    after::the_rest_is_as_before(&server, &before).await;
    Box::pin(after::all_can_be_used(&server, before)).await;
    after::each_exit_was_published_once(&server).await;
    let log = server.log();
    let troubled = |line: &&str| line.contains(" ERROR ") || line.contains(" WARN ");
    assert_eq!(log.lines().find(troubled), None, "nothing is out of the ordinary");
    server.finish().await;
}
