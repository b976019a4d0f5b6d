//! How runtimes are called, what they may write, and which errors their messages become.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use Runtime::{Crun, Runc};
use gantry_api::types::{UpdateContainerRequest, UpdateResource};
use gantry_tests::{
    Container, NewContainer, Runtime, Server, improves, processes,
    runtime::{wrapper, write_script},
    status::assert_error,
};
use rstest::rstest;
use rustix::process::Signal;
use serde_json::json;
use tonic::{Code, Status};

const RUNTIME: &str = "oci runtime error: ";

/// Puts the log's path into `$log`, where the sub-command has one.
const FIND_LOG: &str =
    r#"log=/dev/stderr; last=; for word; do [ "$last" = --log ] && log=$word; last=$word; done"#;

/// More than a server with one container ever needs, in KiB, and far less than what is written here.
const MUCH_MEMORY: u64 = 150 << 10;

/// Containers of it run on `runtime`, but in the sub-commands that the pattern names, where the
/// script does what it likes.
async fn with_script(runtime: Runtime, commands: &str, script: &str) -> Option<(Server, PathBuf)> {
    if improves("the original passes any last line on, and classifies nothing") {
        return None;
    }
    let server = Server::setup(runtime).start().await?;
    let script = format!("{FIND_LOG}\ncase $command in {commands}) {script};; esac");
    let path = wrapper(server.work(), runtime, &script);
    Some((server, path))
}

fn on(server: &Server, runtime: Runtime, path: &Path) -> NewContainer {
    let path = path.to_str().unwrap().to_owned();
    server.container("c").runtime(runtime).request(|request| request.runtime = path)
}

/// The most memory that the server ever had, in KiB.
fn peak_memory(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[rstest]
#[tokio::test]
async fn every_call_has_the_same_environment(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("its runtimes inherit all of its environment") {
        return;
    }
    let seen = tempfile::tempdir().unwrap();
    let script = format!("cat /proc/$$/environ > {}/$command", seen.path().display());
    let runtime_path = wrapper(seen.path(), runtime, &script);
    // As under the unit, and of root's login.
    let setup = Server::setup(runtime)
        .runtime_path(&runtime_path)
        .variable("NOTIFY_SOCKET", "/no/such/notify")
        .variable("LISTEN_FDNAMES", "x")
        .variable("WATCHDOG_USEC", "1000000000")
        .variable("XDG_RUNTIME_DIR", "/no/such/runtime/dir")
        .variable("SECRET", "s")
        .variable("PASSED", "as it is")
        .arguments(&["--runtime-env", "PASSED", "--runtime-env", "SET=a=b"]);
    let Some(server) = setup.start().await else { return };
    // The runtime names the cgroup, so that container and start are two calls.
    let id = server.service.cgroup.trim_start_matches('/').to_owned();
    let container = server.container("c").request(|request| request.id = id);
    let container = container.config(|config| config["linux"]["cgroupsPath"] = json!(null));
    live(container.create().await.unwrap()).await;
    live(server.container("d").create().await.unwrap()).await;

    let path = std::env::var("PATH").unwrap();
    let wanted = vec!["PASSED=as it is".to_owned(), format!("PATH={path}"), "SET=a=b".to_owned()];
    let mut calls = BTreeMap::new();
    for command in ["create", "start", "run", "exec", "pause", "resume", "update", "delete"] {
        let environ = fs::read_to_string(seen.path().join(command)).unwrap();
        let mut lines: Vec<_> = environ.split_terminator('\0').map(str::to_owned).collect();
        lines.sort();
        calls.insert(command, lines);
    }
    assert!(calls.values().all(|environment| *environment == wanted), "{calls:#?}");
    server.finish().await;
}

/// Every sub-command once.
async fn live(container: Container) {
    let exec = container.exec("e").without_pipes().sh("exit 3").start().await.unwrap();
    assert_eq!(exec.exit().await, 3);
    let resources = UpdateResource { cpu_shares: 512, ..UpdateResource::default() };
    let request =
        UpdateContainerRequest { resources: Some(resources), ..UpdateContainerRequest::default() };
    container.update(request).await.unwrap();
    container.pause().await;
    container.resume().await;
    assert_eq!(container.init.kill().await, 137);
}

#[tokio::test]
async fn a_variable_that_is_for_the_server_alone_is_not_configured() {
    let Some(server) = Server::own(Runc).await else { return };
    if improves("it has no such flag") {
        return;
    }
    let mut command = std::process::Command::new(gantry_tests::programs::server());
    let output = command.args(["--runtime-env", "NOTIFY_SOCKET"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("NOTIFY_SOCKET"), "{said}");
    server.finish().await;
}

/// The output is the caller's program's, not the runtime's: it neither means that an id is taken nor causes a retry.
#[rstest]
#[tokio::test]
async fn the_words_of_a_hook_decide_nothing(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("it has one code for all") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    for said in ["container with given ID already exists", "write: no space left on device"] {
        let ran = server.work().join("ran");
        let script = format!("echo >> {}; echo '{said}' >&2; exit 1", ran.display());
        let container = server.container("c").config(|config| {
            let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
            config["hooks"] = json!({ "prestart": [hook] });
        });
        let phrases = [RUNTIME, "hook"];
        assert_error(container.create().await, Code::FailedPrecondition, &phrases);
        assert_eq!(fs::read_to_string(&ran).unwrap(), "\n", "it ran once");
        fs::remove_file(&ran).unwrap();
    }
    server.finish().await;
}

/// A runtime's error about its own files is not reported as a fault of the caller's request.
#[rstest]
#[tokio::test]
async fn the_code_of_a_refusal_says_who_can_fix_it(
    #[values(
        ("pause", "open /x/freezer.state: no such file or directory", Code::FailedPrecondition),
        ("pause", "open /x: too many open files", Code::ResourceExhausted),
        ("update", "write /x: permission denied", Code::FailedPrecondition),
        ("update", "mkdir /x: no space left on device", Code::ResourceExhausted),
        ("run", "invalid rootfs: stat /x: no such file or directory", Code::InvalidArgument),
        ("run", "mkdir /x: No space left on device", Code::ResourceExhausted),
        ("exec", "clone: Resource temporarily unavailable", Code::ResourceExhausted),
        ("exec", "the words already exists mean nothing", Code::FailedPrecondition)
    )]
    case: (&str, &str, Code),
) {
    let (command, said, code) = case;
    let entry = json!({ "level": "error", "msg": said }).to_string();
    let script = format!("echo '{entry}' >> $log; exit 1");
    let Some((server, path)) = with_script(Runc, command, &script).await else { return };
    let result = attempt(&server, command, &path).await;
    assert_error(result, code, &[RUNTIME, said]);
    server.finish().await;
}

/// Makes the runtime's call of a sub-command, which is to fail.
async fn attempt(server: &Server, command: &str, path: &Path) -> Result<(), Status> {
    let created = on(server, Runc, path).without_pipes().create().await;
    if command == "run" {
        return created.map(drop);
    }
    let container = created.unwrap();
    let result = match command {
        "exec" => container.exec("e").without_pipes().sh("true").start().await.map(drop),
        "pause" => container.set_status("paused").await,
        "update" => {
            let resources = Some(UpdateResource { cpu_shares: 512, ..UpdateResource::default() });
            container.update(UpdateContainerRequest { resources, ..Default::default() }).await
        }
        other => panic!("{other}"),
    };
    assert_eq!(container.init.kill().await, 137);
    result
}

#[rstest]
#[tokio::test]
async fn no_message_of_a_runtime_is_lost(
    #[values(
        // As crun ends its log.
        ("run", r#"echo '{"msg":"the reason","level":"error"}
{"msg":"","level":"error"}' >> $log; exit 1"#, "the reason"),
        ("run", r#"printf '{"level":"error","msg":"before \377 behind"}\n' >> $log; exit 1"#,
         "before \u{fffd} behind"),
        // As runc crashes.
        ("pause", "printf 'fatal error: unexpected signal\n\ngoroutine 1 [running]:\n' >&2
         i=0; while [ $i -lt 20000 ]; do echo 'rip    0x46e5c1'; i=$((i + 1)); done >&2
         echo 'gs     0x0' >&2; exit 2", "fatal error: unexpected signal"),
        ("pause", "echo 'Assertion failed' >&2; kill -ABRT $$", "signal 6: Assertion failed"),
        // Longer than what is read of it.
        ("run", r#"truncate -s 300M $log; echo >> $log
         echo '{"level":"error","msg":"the end"}' >> $log; exit 1"#, "the end"),
        ("run", "rm -f $log; mkfifo $log; exit 5", "exit status 5")
    )]
    case: (&str, &str, &str),
) {
    let (command, script, word) = case;
    let Some((server, path)) = with_script(Runc, command, script).await else { return };
    let error = attempt(&server, command, &path).await.unwrap_err();
    assert!(error.message().contains(word), "{error:?}");
    assert!(!error.message().contains("0x0"), "{error:?}");
    assert!(peak_memory(&server) < MUCH_MEMORY, "{} KiB", peak_memory(&server));
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn endless_output_takes_bounded_memory(
    #[values("exec cat /dev/zero", "exec cat /dev/zero >&2")] script: &str,
) {
    let Some((server, path)) = with_script(Runc, "pause", script).await else { return };
    let container = on(&server, Runc, &path).create().await.unwrap();
    let result = container.set_status("paused").await;
    assert_error(result, Code::FailedPrecondition, &["pause", "MiB"]);
    assert!(peak_memory(&server) < MUCH_MEMORY, "{} KiB", peak_memory(&server));
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

/// Whatever it is that a runtime leaves where its pid file should be.
#[rstest]
#[tokio::test]
async fn a_pid_file_that_is_none_is_not_waited_for(
    #[values("mkfifo $pid", "mkdir $pid", "ln -s /dev/zero $pid", "truncate -s 300M $pid", "true")]
    make: &str,
) {
    let script = format!(
        "last=; for word; do [ \"$last\" = --pid-file ] && pid=$word; last=$word; done; {make}; exit 0"
    );
    let Some((server, path)) = with_script(Runc, "run", &script).await else { return };
    let begin = Instant::now();
    let error = attempt(&server, "run", &path).await.unwrap_err();
    // The runtime's deadline is two minutes.
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert!(error.message().contains("pid file"), "{error:?}");
    server.finish().await;
}

/// A pipe stays open as long as anybody has it. The runtime's own end is what counts, and all that
/// it has said by then.
#[tokio::test]
async fn a_call_ends_with_its_runtime_and_not_with_what_that_leaves_behind() {
    let script = "sleep 1000000 & echo $! > $0.child
        echo '{\"level\":\"error\",\"msg\":\"said at the end\"}' >&2; exit 1";
    let Some((server, path)) = with_script(Runc, "pause", script).await else { return };
    let container = on(&server, Runc, &path).create().await.unwrap();
    let begin = Instant::now();
    let result = container.set_status("paused").await;
    // The runtime's deadline is a minute.
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    let child = fs::read_to_string(format!("{}.child", path.display()));
    processes::signal(child.unwrap().trim().parse().unwrap(), Signal::KILL);
    assert_error(result, Code::FailedPrecondition, &["said at the end"]);
    assert_eq!(container.init.kill().await, 137);
    server.finish().await;
}

/// Daemons of 2017 derive exit codes from these phrases.
#[tokio::test]
async fn a_runtime_that_cannot_be_run_has_the_error_of_early_containerd() {
    if improves("the original keeps a directory, and the id is taken for good") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let path = |name: &str| server.work().join(name).to_str().unwrap().to_owned();
    write_script(Path::new(&path("plain")), "#!/bin/sh\n");
    fs::set_permissions(path("plain"), fs::Permissions::from_mode(0o644)).unwrap();
    // A shell would take it for a script, and succeed.
    write_script(Path::new(&path("foreign")), "exit 0\n");
    write_script(Path::new(&path("interpreted")), "#!/no/such/interpreter\n");
    std::os::unix::fs::symlink("loop", path("loop")).unwrap();

    let by_path = [
        (path("missing"), "no such file or directory"),
        (path("plain/below"), "not a directory"),
        (server.work().to_str().unwrap().to_owned(), "permission denied"),
        (path("plain"), "permission denied"),
        (path("foreign"), "exec format error"),
        (path("interpreted"), "no such file or directory"),
        (path("loop"), "too many levels of symbolic links"),
        (path(&"x".repeat(300)), "file name too long"),
    ];
    for (path, words) in by_path {
        let result = on(&server, Runc, Path::new(&path)).without_pipes().create().await;
        assert_error(
            result,
            Code::InvalidArgument,
            &[&format!("{RUNTIME}fork/exec {path}: {words}")],
        );
    }
    let result = on(&server, Runc, Path::new("no-such-runtime")).without_pipes().create().await;
    let phrases = [RUNTIME, "no-such-runtime", "executable file not found"];
    assert_error(result, Code::InvalidArgument, &phrases);
    let container = server.container("c").sh("exit 2").create().await.unwrap();
    assert_eq!(container.init.exit().await, 2);
    server.finish().await;
}

/// Nobody has named it but the operator.
#[rstest]
#[tokio::test]
async fn a_default_runtime_that_is_missing_is_no_fault_of_the_callers(
    #[values("/no/such/runtime", "no-such-runtime")] name: &str,
) {
    if improves("it has one code for all") {
        return;
    }
    let setup = Server::setup(Runc).runtime_path(Path::new(name));
    let Some(server) = setup.start().await else { return };
    let result = server.container("c").without_pipes().create().await;
    assert_error(result, Code::FailedPrecondition, &[RUNTIME, name]);
    server.finish().await;
}
