//! `gantry top` without a container.

use std::process::{Command, Output};

use gantry_tests::{Runtime, Server, programs};
use serde_json::Value;

fn top(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(programs::cli());
    command.arg("--address").arg(&server.service.socket).arg("top").args(arguments);
    command.output().unwrap()
}

fn succeeds(server: &Server, arguments: &[&str]) -> String {
    let output = top(server, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_server_is_shown_once_as_a_table_or_as_json() {
    let Some(server) = Server::own(Runtime::Runc).await else { return };
    let container = server.container("busy").sh("while :; do :; done").create().await.unwrap();
    // There is no terminal.
    let table = succeeds(&server, &["-n", "300ms"]);
    assert!(!table.contains('\x1b'), "{table}");
    for beginning in ["server ", "calls ", "runtime ", "containers  1 running", "events ", "busy"] {
        let is_there = table.lines().any(|line| line.trim_start().starts_with(beginning));
        let is_id = beginning == "busy" && table.contains(&container.id);
        assert!(is_there || is_id, "{beginning}: {table}");
    }
    let json = succeeds(&server, &["--once", "--json", "--interval", "500ms"]);
    let report: Value = serde_json::from_str(json.trim_end()).unwrap();
    assert!(report["calls"]["per_second"].as_f64().unwrap() > 0.0, "{report}");
    assert!(report["process"]["memory"].as_u64().unwrap() > 1 << 20, "{report}");
    let busiest = &report["busiest"][0];
    assert_eq!(busiest["id"], container.id.as_str());
    assert!(busiest["cpu_percent"].as_f64().unwrap() > 5.0, "{report}");
    assert_eq!(busiest["pids"], 1);
    let wrong = top(&server, &["--once", &container.id]);
    assert!(!wrong.status.success());
    container.init.kill().await;
    server.finish().await;
}
