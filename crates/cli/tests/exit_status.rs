//! What scripts rely on: the exit status and the two streams, without a server.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on must say so, and this one is about a process"
)]

use std::process::{Command, Output};

fn gantry(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gantry"));
    command.args(["--address", "/nonexistent/gantryd.sock"]).args(args).output().unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[test]
fn a_start_without_a_server_is_not_mistaken_for_a_container_that_failed() {
    for args in [&["run", "--rootfs", "/", "web", "true"][..], &["exec", "web", "true"]] {
        let output = gantry(args);
        assert_eq!(output.status.code(), Some(125), "{args:?}");
        let wanted = "gantry: connect to /nonexistent/gantryd.sock: no connection: No such file or directory";
        assert!(stderr(&output).starts_with(wanted), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn other_commands_fail_with_1_and_wrong_usage_with_2() {
    assert_eq!(gantry(&["ps"]).status.code(), Some(1));
    assert_eq!(gantry(&["ps", "--nonsense"]).status.code(), Some(2));
    assert_eq!(gantry(&["kill", "-s", "NONSENSE", "web"]).status.code(), Some(2));
    assert_eq!(gantry(&["run", "--nonsense"]).status.code(), Some(125));
}

#[test]
fn help_goes_to_standard_output() {
    let output = gantry(&["run", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("The exit status is the program's"), "{text}");
}

#[test]
fn version_tells_its_own_even_without_a_server() {
    let output = gantry(&["version"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.trim(), format!("gantry  {}", env!("CARGO_PKG_VERSION")));
    let output = gantry(&["version", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(json, serde_json::json!({ "gantry": own, "server": null }));
}
