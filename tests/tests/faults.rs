//! Runtimes that hang, lie or crash: each call has its deadline, and what it began is undone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use Runtime::{Crun, Runc};
use gantry_api::types::{UpdateContainerRequest, UpdateResource};
use gantry_tests::{
    NewContainer, Runtime, Server, cgroup, events::listing, eventually, improves, runtime::wrapper,
    skip, status::assert_error,
};
use rstest::rstest;
use tonic::Code;

/// The server's deadlines in these tests: more than what does not hang takes on a busy machine.
const DEADLINE: Duration = Duration::from_secs(5);
const DEADLINES: [&str; 4] = ["--start-timeout", "5s", "--runtime-timeout", "5s"];
/// By then a call with a deadline has ended, however busy the machine.
const WELL_AFTER: Duration = Duration::from_secs(60);

/// A server with short deadlines, and a runtime that hangs the first time in the sub-commands that
/// the pattern names, ignores every signal but SIGKILL, and has a child that does the same.
async fn with_hanging_runtime(runtime: Runtime, commands: &str) -> Option<(Server, String)> {
    if improves("the original waits for ever") {
        return None;
    }
    let server = Server::setup(runtime).arguments(&DEADLINES).start().await?;
    let flag = server.work().join("has-hung");
    let script = format!(
        "case $command in {commands}) if [ ! -e {0} ]; then touch {0}\n\
         trap '' TERM INT HUP; sleep 1000000 & while :; do wait; sleep 1; done; fi;; esac",
        flag.display()
    );
    let path = wrapper(server.work(), runtime, &script).to_str().unwrap().to_owned();
    Some((server, path))
}

fn on(server: &Server, runtime: Runtime, path: &str) -> NewContainer {
    let path = path.to_owned();
    server.container("c").runtime(runtime).request(|request| request.runtime = path)
}

#[rstest]
#[tokio::test]
async fn a_create_that_hangs(#[values(Runc, Crun)] runtime: Runtime) {
    let Some((server, path)) = with_hanging_runtime(runtime, "create|run").await else { return };
    let begin = Instant::now();
    let result = on(&server, runtime, &path).create().await;
    let elapsed = begin.elapsed();
    assert_error(result, Code::DeadlineExceeded, &[]);
    assert!(elapsed >= DEADLINE && elapsed < WELL_AFTER, "{elapsed:?}");
    gantry_tests::leftovers::assert_no_cgroup(&server.service);
    let container = on(&server, runtime, &path).sh("exit 6").create().await.unwrap();
    assert_eq!(container.init.exit().await, 6);
    let events = server.service.events.all();
    assert_eq!(events.len(), 2, "the first has no events:\n{}", listing(&events));
    server.finish().await;
}

/// The runtime has done all and hangs before it ends.
#[rstest]
#[tokio::test]
async fn a_create_that_hangs_at_its_end(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original waits for ever") {
        return;
    }
    let setup = Server::setup(runtime).arguments(&DEADLINES[..2]);
    let Some(server) = setup.start().await else { return };
    let flag = server.work().join("has-hung");
    let script = format!(
        "case $command in create|run|exec) {} \"$@\"; status=$?\n\
         [ -e {flag} ] || {{ touch {flag}; sleep 1000000; }}; exit $status;; esac",
        runtime.name(),
        flag = flag.display()
    );
    let path = wrapper(server.work(), runtime, &script).to_str().unwrap().to_owned();
    assert_error(on(&server, runtime, &path).create().await, Code::DeadlineExceeded, &[]);
    gantry_tests::leftovers::assert_no_cgroup(&server.service);

    let container = on(&server, runtime, &path).create().await.unwrap();
    fs::remove_file(&flag).unwrap();
    let exec = container.exec("e").args(&["sleep", "1000000"]).start().await;
    assert_error(exec, Code::DeadlineExceeded, &[]);
    let state = container.state().await.unwrap();
    assert_eq!(state.pids, [container.init.system_pid], "the exec is gone with its runtime");
    let exec = container.exec("e").sh("exit 3").start().await.unwrap();
    assert_eq!(exec.exit().await, 3);
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn an_exec_that_hangs(#[values(Runc, Crun)] runtime: Runtime) {
    let Some((server, path)) = with_hanging_runtime(runtime, "exec").await else { return };
    let container = on(&server, runtime, &path).create().await.unwrap();
    let begin = Instant::now();
    let result = container.exec("e").sh("true").start().await;
    assert!(begin.elapsed() < WELL_AFTER, "{:?}", begin.elapsed());
    assert_error(result, Code::DeadlineExceeded, &[]);
    assert_eq!(container.state().await.unwrap().processes.len(), 1);
    let exec = container.exec("e").sh("exit 3").start().await.unwrap();
    assert_eq!(exec.exit().await, 3);
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_pause_or_resume_that_hangs(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values("pause", "resume")] command: &str,
) {
    let Some((server, path)) = with_hanging_runtime(runtime, command).await else { return };
    let container = on(&server, runtime, &path).create().await.unwrap();
    if command == "resume" {
        container.pause().await;
    }
    let status = if command == "pause" { "paused" } else { "running" };
    let begin = Instant::now();
    let result = container.set_status(status).await;
    assert!(begin.elapsed() < WELL_AFTER, "{:?}", begin.elapsed());
    assert_error(result, Code::DeadlineExceeded, &[]);
    // Once more, and it works.
    container.set_status(status).await.unwrap();
    assert_eq!(container.state().await.unwrap().status, status);
    if command == "pause" {
        container.resume().await;
    }
    container.init.kill().await;
    server.finish().await;
}

/// What is half frozen may stay so for ever: a thread that executes a program waits in the kernel until
/// its siblings are dead, and those that are frozen do not die. Whatever runc is asked to do, it waits
/// until all is frozen.
#[rstest]
#[tokio::test]
async fn a_pause_that_is_killed_halfway(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original leaves it to runc") {
        return;
    }
    let Some(server) = Server::own(runtime).await else { return };
    let Some(freezer) = cgroup::freezer_v1() else { return skip("version 1 has no freezer here") };
    let below = |name: &str| {
        freezer.join(format!("{}/{name}", server.service.cgroup.trim_start_matches('/')))
    };
    let script = format!(
        "case $command in pause) echo FROZEN > {}/freezer.state; kill -KILL $$;; esac",
        below("c").display()
    );
    let path = wrapper(server.work(), runtime, &script).to_str().unwrap().to_owned();
    let container = on(&server, runtime, &path).create().await.unwrap();
    let Some(mut executing) = Executing::start(&below("c"), &below("side")).await else {
        return skip("no python3");
    };

    container.set_status("paused").await.expect_err("the runtime is killed");
    assert_eq!(cgroup::read(&container.cgroup, "freezer.state").unwrap(), "FREEZING");
    assert_eq!(container.state().await.unwrap().status, "paused", "it is freezing");
    container.set_status("running").await.unwrap();
    assert_eq!(container.state().await.unwrap().status, "running");
    assert_eq!(cgroup::read(&container.cgroup, "freezer.state").unwrap(), "THAWED");

    executing.end().await;
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

/// A process that executes a program and cannot, as a thread of it is frozen in another cgroup.
struct Executing {
    process: tokio::process::Child,
    side: PathBuf,
}

impl Executing {
    async fn start(cgroup: &Path, side: &Path) -> Option<Self> {
        let script = "import os, sys, threading, time\n\
            threading.Thread(target=time.sleep, args=(1e6,)).start()\n\
            sys.stdin.readline()\n\
            os.execvp('sleep', ['sleep', '1000000'])";
        let mut command = tokio::process::Command::new("python3");
        command.args(["-c", script]).stdin(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().ok()?;
        let pid = process.id().expect("it was not waited for");
        let threads = || {
            let entries = fs::read_dir(format!("/proc/{pid}/task")).expect("list threads");
            entries.flatten().map(|entry| entry.file_name().into_string().unwrap())
        };
        eventually("two threads", || threads().count() == 2).await;
        let thread = threads().find(|thread| *thread != pid.to_string()).unwrap();
        fs::create_dir(side).unwrap();
        fs::write(cgroup.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(side.join("tasks"), thread).unwrap();
        fs::write(side.join("freezer.state"), "FROZEN").unwrap();
        let state = || fs::read_to_string(side.join("freezer.state")).unwrap();
        eventually("the thread is frozen", || state() == "FROZEN\n").await;
        drop(process.stdin.take());
        // It stays in the kernel, see proc(5); for a moment it is there for other things as well.
        let status = || fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let mut looks = 0;
        let stays = || {
            looks = if status().contains("State:\tD") { looks + 1 } else { 0 };
            looks == 20
        };
        eventually("it executes", stays).await;
        Some(Self { process, side: side.to_owned() })
    }

    async fn end(&mut self) {
        fs::write(self.side.join("freezer.state"), "THAWED").unwrap();
        self.process.kill().await.unwrap();
        fs::remove_dir(&self.side).unwrap();
    }
}

#[rstest]
#[tokio::test]
async fn an_update_that_hangs(#[values(Runc, Crun)] runtime: Runtime) {
    let Some((server, path)) = with_hanging_runtime(runtime, "update").await else { return };
    let container = on(&server, runtime, &path).create().await.unwrap();
    let update = || {
        let resources = Some(UpdateResource { memory_limit: 64 << 20, ..<_>::default() });
        container.update(UpdateContainerRequest { resources, ..<_>::default() })
    };
    let begin = Instant::now();
    let result = update().await;
    assert!(begin.elapsed() < WELL_AFTER, "{:?}", begin.elapsed());
    assert_error(result, Code::DeadlineExceeded, &[]);
    update().await.unwrap();
    container.init.kill().await;
    server.finish().await;
}

/// The exit is published and the container is gone, although the runtime needs more than one call for that.
#[rstest]
#[tokio::test]
async fn a_delete_or_any_other_that_hangs(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values("delete", "kill", "state", "start", "ps")] command: &str,
) {
    let Some((server, path)) = with_hanging_runtime(runtime, command).await else { return };
    let container = match on(&server, runtime, &path).create().await {
        Ok(container) => container,
        // A runtime that is used in two steps hangs in the second.
        Err(error) => {
            assert_eq!((error.code(), command), (Code::DeadlineExceeded, "start"), "{error:?}");
            on(&server, runtime, &path).create().await.unwrap()
        }
    };
    let begin = Instant::now();
    assert_eq!(container.init.kill().await, 137);
    assert!(begin.elapsed() < WELL_AFTER, "{:?}", begin.elapsed());
    assert!(cgroup::directories(&container.cgroup).is_empty());
    let again = on(&server, runtime, &path).sh("exit 4").create().await.unwrap();
    assert_eq!(again.init.exit().await, 4);
    server.finish().await;
}

/// Runtimes that end well and have done nothing, or not what they say.
#[rstest]
#[case::nothing("exit 0", "pid file")]
#[case::no_number("echo not-a-pid > $pid_file; exit 0", "pid file")]
#[case::no_process("echo 4194300 > $pid_file; exit 0", "pid")]
#[case::not_its_own("echo $STRANGER > $pid_file; exit 0", "pid")]
#[case::crash("kill -SEGV $$", "signal 11")]
#[case::scribbled_log("echo '\\0\\0{{{' > $log; echo some words >> $log; exit 1", "some words")]
#[case::two_errors(
    "echo '{\"level\":\"error\",\"msg\":\"first\"}' > $log
     echo '{\"level\":\"error\",\"msg\":\"second\"}' >> $log; exit 1",
    "second"
)]
#[tokio::test]
async fn a_runtime_that_lies(#[case] script: &str, #[case] words: &str) {
    if improves("the original believes it") {
        return;
    }
    let setup = Server::setup(Runc).arguments(&["--start-timeout", "5s"]);
    let Some(server) = setup.start().await else { return };
    let find_files = r#"
for word; do
    case $before in --pid-file) pid_file=$word;; --log) log=$word;; esac
    before=$word
done
"#;
    // A process that is none of the runtime's affair.
    let mut stranger = std::process::Command::new("sleep").arg("1000000").spawn().unwrap();
    let pid = stranger.id();
    let script =
        format!("STRANGER={pid}\n{find_files}\ncase $command in create|run) {script};; esac");
    let path = wrapper(server.work(), Runc, &script).to_str().unwrap().to_owned();
    let result = on(&server, Runc, &path).create().await;
    let survives = stranger.try_wait().unwrap().is_none();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let error = result.unwrap_err();
    assert!(error.message().contains(words), "{error:?}");
    assert!(survives, "nobody else's process is touched");
    let container = server.container("c").sh("exit 2").create().await.unwrap();
    assert_eq!(container.init.exit().await, 2);
    server.finish().await;
}
