//! A server that has no descriptor left for a further connection.

use std::{fs, os::unix::net::UnixStream, time::Duration};

use gantry_api::types::StateRequest;
use gantry_tests::{Runtime, Server, eventually, improves, patiently};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// More than the server has left, and less than wait to be accepted (`net.core.somaxconn`).
const CONNECTIONS: usize = 100;

/// CPU time of a process, in ticks of 10 ms: fields 14 and 15 of /proc/pid/stat, see proc(5).
fn cpu_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a living process");
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum()
}

fn open_files(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("list descriptors").count() as u64
}

#[tokio::test]
async fn connections_wait_for_a_free_descriptor() {
    if improves("the original tries without a pause") {
        return;
    }
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let pid = server.pid();
    // Without descriptors a server does not even start.
    let mut api = server.service.api();
    api.state(StateRequest { id: String::new() }).await.expect("the server is ready");
    let process = Pid::from_raw(pid.cast_signed());
    let limit = open_files(pid) + 20;
    let lower = Rlimit { current: Some(limit), ..getrlimit(Resource::Nofile) };
    let before = prlimit(process, Resource::Nofile, lower).expect("lower the limit");
    let connect = || UnixStream::connect(&server.service.socket).expect("connect");
    let connections: Vec<_> = (0..CONNECTIONS).map(|_| connect()).collect();
    eventually("no descriptor is left", || server.log().contains("cannot accept")).await;

    let begin = cpu_time(pid);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = cpu_time(pid) - begin;
    assert!(used < 30, "{used}0 ms of CPU time in 2 s");
    let log = server.log();
    assert_eq!(log.matches("cannot accept connections").count(), 1, "{log}");

    drop(connections);
    let mut api = gantry_tests::service::connect(&server.service.socket);
    patiently("a new connection is served", async {
        // The server may have no room for what the call needs before it has closed the others.
        while api.state(StateRequest { id: String::new() }).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    eventually("the log says that it is over", || {
        server.log().contains("connections are accepted again")
    })
    .await;
    let _ = prlimit(process, Resource::Nofile, before);
    server.finish().await;
}
