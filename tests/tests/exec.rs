//! Further processes in a running container.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use Runtime::{Crun, Runc};
use gantry_api::types::{Rlimit, User};
use gantry_tests::{
    PATIENCE, Process, Runtime, Server, events, improves, runtime::wrapper, status::assert_error,
};
use rstest::rstest;
use tonic::Code;

/// No time for a runtime to be called.
const REFUSED_WITHIN: Duration = Duration::from_millis(50);

#[rstest]
#[tokio::test]
async fn an_exec_is_listed_until_its_exit(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    for round in 0..3 {
        let script = format!("read line; echo \"$line\"; exit {round}");
        let mut exec = container.exec("again").sh(&script).start().await.unwrap();
        let processes = container.state().await.unwrap().processes;
        assert_eq!(processes.len(), 2);
        let listed = processes.iter().find(|process| process.pid == "again").unwrap();
        assert_eq!(listed.system_pid, exec.system_pid);
        assert_eq!(listed.args, ["sh", "-c", &script]);
        assert_eq!(listed.stdout, exec.pipes().paths.stdout.to_str().unwrap());

        exec.pipes().write(b"hello\n").await;
        assert_eq!(exec.exit().await, round);
        assert_eq!(exec.pipes().stdout_text().await, "hello\n");
        assert_eq!(container.state().await.unwrap().processes.len(), 1);
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn exit_status_of_an_exec(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    for status in [0, 1, 42, 255] {
        let exec = container.exec("e").sh(&format!("exit {status}")).start().await.unwrap();
        assert_eq!(exec.exit().await, status);
    }
    for signal in [9, 11, 15] {
        let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
        exec.runs("sleep 1000000").await;
        exec.signal(signal).await.unwrap();
        assert_eq!(exec.exit().await, 128 + signal);
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn everything_about_an_exec_is_as_asked(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let script = "pwd; env | grep -E '^(A|E|PATH)=' | sort; grep core /proc/self/limits; \
        grep -E '^(Uid|Gid|Groups|Cap|NoNew)' /proc/self/status";
    let exec = container.exec("e").sh(script).request(|request| {
        request.user = Some(User { uid: 12, gid: 34, additional_gids: vec![56, 78] });
        request.env = vec!["PATH=/bin".to_owned(), "A=b c".to_owned(), "E=".to_owned()];
        request.cwd = "/tmp".to_owned();
        request.capabilities = vec!["CAP_CHOWN".to_owned(), "CAP_KILL".to_owned()];
        request.rlimits = vec![Rlimit { r#type: "RLIMIT_CORE".to_owned(), soft: 100, hard: 200 }];
        request.no_new_privileges = true;
    });
    let mut exec = exec.start().await.unwrap();
    let text = exec.pipes().stdout_text().await;
    assert_eq!(exec.exit().await, 0, "{text}");
    let words: Vec<_> = text.split_whitespace().collect();
    for expected in [
        "/tmp A=b c E= PATH=/bin",
        "Max core file size 100 200 bytes",
        "Uid: 12 12 12 12",
        "Gid: 34 34 34 34",
        "NoNewPrivs: 1",
        // CAP_CHOWN is bit 0, CAP_KILL bit 5, see capability.h.
        "CapBnd: 0000000000000021",
    ] {
        assert!(words.join(" ").contains(expected), "no {expected:?} in {text}");
    }
    let groups = text.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap();
    let groups: Vec<_> = groups.split_whitespace().filter(|group| *group != "34").collect();
    assert_eq!(groups, ["56", "78"]);
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn capabilities_are_not_inheritable(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original fills the inheritable set, CVE-2022-24769") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = container.exec("e").args(&["grep", "^Cap", "/proc/self/status"]);
    let exec = exec.request(|request| request.capabilities = vec!["CAP_KILL".to_owned()]);
    let (set, none) = ("0000000000000020", "0000000000000000");
    let expected = format!(
        "CapInh:\t{none}\nCapPrm:\t{set}\nCapEff:\t{set}\nCapBnd:\t{set}\nCapAmb:\t{none}\n"
    );
    assert_eq!(output(exec.start().await.unwrap()).await, expected);
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_is_missing_in_an_exec(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original crashes when there is no user") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let script = "/bin/id -u; /bin/id -g; /bin/grep CapBnd /proc/self/status; /bin/env";
    let exec = container.exec("e").args(&["/bin/sh", "-c", script]).request(|request| {
        request.user = None;
        request.env.clear();
    });
    let text = output(exec.start().await.unwrap()).await;
    let rest = text.strip_prefix("0\n0\nCapBnd:\t0000000000000000\n");
    let rest = rest.unwrap_or_else(|| panic!("root without capabilities: {text}"));
    // crun fills in the container's own.
    assert!(!rest.contains("FROM=") || runtime == Crun, "no environment of any other: {text}");
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn labels_of_an_exec_reach_the_runtime() {
    let Some(server) = Server::start(Runc).await else { return };
    let seen = server.work().join("process.json");
    // The kernel here may have neither module: what counts is what the runtime is given.
    let record = format!(
        "if [ $command = exec ]; then\n\
         while [ \"$1\" != --process ]; do shift; done; cp \"$2\" {}; exit 1\nfi",
        seen.display()
    );
    let wrapper = wrapper(server.work(), Runc, &record);
    let container = server.container("c").runtime(Runc);
    let container = container.request(|r| r.runtime = wrapper.to_str().unwrap().to_owned());
    let container = container.create().await.unwrap();
    let exec = container.exec("e").sh("true").request(|request| {
        request.apparmor_profile = "a-profile".to_owned();
        request.selinux_label = "user:role:type:level".to_owned();
    });
    exec.start().await.unwrap_err();
    let text = std::fs::read_to_string(seen).unwrap();
    let process: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(process["apparmorProfile"], "a-profile");
    assert_eq!(process["selinuxLabel"], "user:role:type:level");
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_exit_waits_for_no_child_with_stdout(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original waits for the end of stdout") {
        return;
    }
    // Whoever waited for the output would wait longer than this test does.
    let setup = Server::setup(runtime).arguments(&["--linger", "10m"]);
    let Some(server) = setup.start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let mut exec = container.exec("e").sh("sleep 1000000 & echo here").start().await.unwrap();
    assert_eq!(exec.exit().await, 0);
    assert_eq!(exec.pipes().stdout_until("here\n").await, "here\n");
    assert_eq!(container.state().await.unwrap().pids.len(), 2, "the child lives on");
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_exec_in_a_paused_container_is_refused(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original hangs in the frozen runtime") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    container.pause().await;
    // A busy machine may take its time, but not each time.
    let mut quickest = Duration::MAX;
    for _ in 0..500 {
        let begin = Instant::now();
        let result = container.exec("e").without_pipes().sh("true").start().await;
        quickest = quickest.min(begin.elapsed());
        assert_error(result, Code::FailedPrecondition, &["paused"]);
        if quickest < REFUSED_WITHIN {
            break;
        }
    }
    assert!(quickest < REFUSED_WITHIN, "{quickest:?}");
    container.resume().await;
    let exec = container.exec("e").sh("exit 4").start().await.unwrap();
    assert_eq!(exec.exit().await, 4);
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_exec_may_outlive_its_shell_but_not_init(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let mut execs = Vec::new();
    for number in 0..5 {
        let exec = container.exec(&format!("e{number}")).args(&["sleep", "1000000"]);
        execs.push(exec.start().await.unwrap());
    }
    assert_eq!(container.init.kill().await, 137);
    for exec in &execs {
        assert!(exec.has_exited(), "{} after init", exec.id);
        assert_eq!(exec.exit().await, 137);
    }
    let late = container.exec("late").without_pipes().sh("true").start().await;
    assert_error(late, Code::NotFound, &["container not found"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn start_process_is_published_before_the_exit(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    for number in 0..20 {
        let exec = container.exec(&format!("e{number}")).without_pipes().args(&["true"]);
        assert_eq!(exec.start().await.unwrap().exit().await, 0);
    }
    container.init.kill().await;
    let all = server.service.events.all();
    assert_eq!(all.len(), 42, "{}", events::listing(&all));
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_signal_is_for_its_process_only(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let one = container.exec("one").args(&["sleep", "1000000"]).start().await.unwrap();
    let two = container.exec("two").args(&["sleep", "1000000"]).start().await.unwrap();
    assert_eq!(one.kill().await, 137);
    let processes = container.state().await.unwrap().processes;
    let mut left: Vec<_> = processes.iter().map(|process| process.pid.as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, ["init", "two"]);
    assert_eq!(two.kill().await, 137);
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn stdin_of_an_exec_ends_when_asked(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let mut exec = container.exec("e").args(&["wc", "-c"]).start().await.unwrap();
    exec.pipes().write(&[b'x'; 100_000]).await;
    exec.pipes().stdin = None;
    exec.close_stdin().await.unwrap();
    assert_eq!(exec.pipes().stdout_text().await, "100000\n");
    assert_eq!(exec.exit().await, 0);
    container.init.kill().await;
    server.finish().await;
}

async fn output(mut exec: Process) -> String {
    let text = exec.pipes().stdout_text().await;
    assert_eq!(exec.exit().await, 0, "{text}");
    text
}

/// Daemons of 2017 close the stdin of whatever they have copied to, and warn of every error but
/// "container not found".
#[tokio::test]
async fn stdin_of_a_process_that_has_ended_may_be_closed() {
    if improves("the original does not know a process that has ended") {
        return;
    }
    let Some((server, path, go)) = with_slow_delete().await else { return };
    let container = server.container("c").runtime(Runc).request(|request| request.runtime = path);
    let container = container.create().await.unwrap();
    for id in ["first", "second"] {
        let exec = container.exec(id).sh("true").start().await.unwrap();
        exec.exit().await;
        exec.close_stdin().await.unwrap();
    }
    container.init.signal(9).await.unwrap();
    assert!(container.init.ends_within(PATIENCE).await);
    // It is known until its exit is published.
    container.init.close_stdin().await.unwrap();
    std::fs::write(go, "").unwrap();
    assert_eq!(container.init.exit().await, 137);
    let result = container.init.close_stdin().await;
    assert_error(result, Code::NotFound, &["container not found"]);
    server.finish().await;
}

#[tokio::test]
async fn signal_zero_asks_whether_a_process_lives() {
    if improves("it has one code for all") {
        return;
    }
    let Some((server, path, go)) = with_slow_delete().await else { return };
    let container = server.container("c").runtime(Runc).request(|request| request.runtime = path);
    let container = container.create().await.unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await.unwrap();
    exec.signal(0).await.unwrap();
    container.init.signal(0).await.unwrap();
    assert_eq!(exec.kill().await, 137, "it did live on");
    assert_error(exec.signal(0).await, Code::NotFound, &["no such process"]);
    container.init.signal(9).await.unwrap();
    assert!(container.init.ends_within(PATIENCE).await);
    let result = container.init.signal(0).await;
    assert_error(result, Code::FailedPrecondition, &["no such process"]);
    std::fs::write(go, "").unwrap();
    assert_eq!(container.init.exit().await, 137);
    assert_error(container.init.signal(0).await, Code::NotFound, &["container not found"]);
    server.finish().await;
}

/// A server, and a runtime that deletes no container before a file is there.
async fn with_slow_delete() -> Option<(Server, String, PathBuf)> {
    let server = Server::own(Runc).await?;
    let go = server.work().join("go");
    let script = format!(
        "if [ $command = delete ]; then until [ -e {} ]; do sleep 0.05; done; fi",
        go.display()
    );
    let path = wrapper(server.work(), Runc, &script).to_str().unwrap().to_owned();
    Some((server, path, go))
}

#[tokio::test]
async fn init_is_taken() {
    if improves("the original starts a second one") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let result = container.exec("init").without_pipes().sh("true").start().await;
    assert_error(result, Code::AlreadyExists, &["init"]);
    container.init.kill().await;
    let result = container.exec("init").without_pipes().sh("true").start().await;
    assert_error(result, Code::NotFound, &["container not found"]);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_unknown_capability_is_named(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original drops it without a word") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let exec = |capability: &str| {
        let capabilities = vec!["CAP_KILL".to_owned(), capability.to_owned()];
        let script = "grep CapEff /proc/self/status";
        container.exec("e").sh(script).request(|request| request.capabilities = capabilities)
    };
    let result = exec("CAP_NO_SUCH").start().await;
    assert_error(result, Code::InvalidArgument, &["capabilities", "CAP_NO_SUCH"]);
    let mut exec = exec("cap_chown").start().await.unwrap();
    assert_eq!(exec.pipes().stdout_text().await, "CapEff:\t0000000000000021\n");
    assert_eq!(exec.exit().await, 0);
    container.init.kill().await;
    server.finish().await;
}
