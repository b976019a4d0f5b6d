//! Pipes and files as stdin, stdout and stderr.

use std::{fs, io::Read, path::PathBuf, time::Duration};

use Runtime::{Crun, Runc};
use gantry_tests::{Runtime, Server, improves, patiently, pipes::PipePaths};
use rstest::rstest;
use tonic::Code;
use tonic_types::StatusExt;

#[rstest]
#[tokio::test]
async fn stdout_and_stderr_are_two(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").sh("echo out; echo err >&2; echo more");
    let mut container = container.create().await.unwrap();
    assert_eq!(container.init.exit().await, 0);
    assert_eq!(container.init.pipes().stdout_text().await, "out\nmore\n");
    assert_eq!(container.init.pipes().stderr().await, b"err\n");
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn output_is_byte_exact(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for size in around_powers_of_two(&[0, 9, 12, 16, 20]) {
        let script = format!("head -c {size} /dev/zero | tr '\\0' x");
        let container = server.container(&format!("c{size}")).sh(&script);
        let mut container = container.create().await.unwrap();
        let output = container.init.pipes().stdout().await;
        assert_eq!(output.len(), size);
        assert!(output.iter().all(|byte| *byte == b'x'));
        assert_eq!(container.init.exit().await, 0);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn output_is_in_the_pipe_by_the_exit(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for round in 0..10 {
        let container = server.container(&format!("c{round}")).sh("echo last words");
        let mut container = container.create().await.unwrap();
        container.init.exit().await;
        let mut buffer = [0; 100];
        let stdout = container.init.pipes().stdout.as_mut().unwrap();
        let count = stdout.try_read(&mut buffer).expect("it is there without waiting");
        assert_eq!(&buffer[..count], b"last words\n");
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn stdin_reaches_the_process_whole(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    for size in around_powers_of_two(&[0, 12, 16, 22]) {
        let container = server.container(&format!("c{size}")).args(&["md5sum"]);
        let mut container = container.create().await.unwrap();
        let input: Vec<u8> = (0..251).cycle().take(size).collect();
        container.init.pipes().write(&input).await;
        container.init.pipes().stdin = None;
        container.init.close_stdin().await.unwrap();
        let output = container.init.pipes().stdout_text().await;
        assert_eq!(output, format!("{}  -\n", md5(&input)), "{size} bytes");
        assert_eq!(container.init.exit().await, 0);
    }
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn stdin_ends_while_the_caller_has_it_open(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("with the original, all of the caller's ends must be closed too") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let mut container = server.container("c").args(&["wc", "-c"]).create().await.unwrap();
    // More than fits: the end comes after what was written.
    container.init.pipes().write(&[b'x'; 300_000]).await;
    container.init.close_stdin().await.unwrap();
    assert_eq!(container.init.pipes().stdout_text().await, "300000\n");
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn stdin_is_closed_once_however_often_it_is_asked(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let container = server.container("c").sh("cat; echo end; sleep 1000000");
    let mut container = container.create().await.unwrap();
    container.init.pipes().write(b"text\n").await;
    container.init.pipes().stdin = None;
    for _ in 0..3 {
        container.init.close_stdin().await.unwrap();
    }
    assert_eq!(container.init.pipes().stdout_until("end\n").await, "text\nend\n");
    container.init.close_stdin().await.unwrap();
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_caller_may_leave_and_come_back(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let script = "while read line; do echo \"<$line>\"; echo; done; echo end of file";
    let mut container = server.container("c").sh(script).create().await.unwrap();
    let pipes = container.init.pipes();
    for round in 0..3 {
        let line = format!("line {round}");
        pipes.write(format!("{line}\n").as_bytes()).await;
        pipes.stdout_until(&format!("<{line}>\n\n")).await;
        pipes.hang_up();
        pipes.reopen();
    }
    assert!(!container.init.has_exited(), "neither an end of file nor SIGPIPE");
    container.init.pipes().stdin = None;
    container.init.close_stdin().await.unwrap();
    container.init.pipes().stdout_until("end of file\n").await;
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_writer_waits_for_its_reader(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done";
    let mut container = server.container("c").sh(script).create().await.unwrap();
    let pipes = container.init.pipes();
    let mut all = pipes.stdout_until("line 1000\n").await;
    // Nobody reads: the pipe fills up, and the process waits instead of being killed by SIGPIPE.
    pipes.hang_up();
    assert!(!container.init.ends_within(Duration::from_millis(200)).await);
    let pipes = container.init.pipes();
    pipes.reopen();
    all += &pipes.stdout_text().await;
    let expected: String = (0..20000).map(|n| format!("line {n}\n")).collect();
    assert!(all == expected, "{} of {} bytes", all.len(), expected.len());
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn no_path_is_dev_null(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    // Reading ends at once, and writing works for ever.
    let script = "cat && yes | head -c 1000000 && yes | head -c 1000000 >&2; exit $?";
    let container = server.container("c").without_pipes().sh(script).create().await.unwrap();
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn files_are_as_good_as_pipes(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = Server::start(runtime).await else { return };
    let path = |name: &str| server.work().join(name);
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    fs::write(path("in"), "from a file\n").unwrap();
    fs::write(path("out"), "").unwrap();
    fs::write(path("err"), "").unwrap();
    let container = server.container("c").without_pipes().sh("cat; echo done; echo bad >&2");
    let container = container.request(|request| {
        request.stdin = text(path("in"));
        request.stdout = text(path("out"));
        request.stderr = text(path("err"));
    });
    let container = container.create().await.unwrap();
    assert_eq!(container.init.exit().await, 0);
    assert_eq!(fs::read_to_string(path("out")).unwrap(), "from a file\ndone\n");
    assert_eq!(fs::read_to_string(path("err")).unwrap(), "bad\n");
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_start_waits_for_no_reader(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original gives up after 15 s") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let paths = PipePaths::make(&server.work().join("late"), "init");
    let container = server.container("c").without_pipes().sh("echo early; cat");
    let container = container.request(|request| with_pipes(request, &paths));
    let container = container.create().await.unwrap();
    // The caller comes late and opens its ends the blocking way.
    let stdout = paths.stdout.clone();
    let reader = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        fs::File::open(stdout).unwrap().read_to_string(&mut text).unwrap();
        text
    });
    let stdin = paths.stdin.clone();
    let writer = tokio::task::spawn_blocking(move || fs::write(stdin, "late\n").unwrap());
    patiently("a write to stdin", writer).await.unwrap();
    container.init.close_stdin().await.unwrap();
    assert_eq!(patiently("the output", reader).await.unwrap(), "early\nlate\n");
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn output_outlives_its_process(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original loses what nobody has read by the exit") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let paths = PipePaths::make(&server.work().join("late"), "init");
    let container = server.container("c").without_pipes().sh("echo out; echo err >&2");
    let container = container.request(|request| with_pipes(request, &paths));
    let container = container.create().await.unwrap();
    assert_eq!(container.init.exit().await, 0);
    let mut pipes = paths.open();
    assert_eq!(pipes.stdout_text().await, "out\n");
    assert_eq!(pipes.stderr().await, b"err\n");
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_process_begins_with_clean_signals_and_descriptors(
    #[values(Runc, Crun)] runtime: Runtime,
) {
    let Some(server) = Server::start(runtime).await else { return };
    let mut container =
        server.container("fds").args(&["ls", "/proc/self/fd"]).create().await.unwrap();
    let output = container.init.pipes().stdout_text().await;
    assert_eq!(output, "0\n1\n2\n3\n", "the last one is the directory that it lists");
    container.init.exit().await;

    let container = server.container("signals").args(&["grep", "Sig", "/proc/self/status"]);
    let mut container = container.create().await.unwrap();
    let status = container.init.pipes().stdout_text().await;
    assert_eq!(signals(&status, "SigBlk"), 0);
    // What the server's own parent ignored is ignored by all its descendants; but not SIGPIPE, bit
    // 12, which this test ignores as all Rust programs do.
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let inherited = signals(&own, "SigIgn") & !(1 << 12);
    assert_eq!(signals(&status, "SigIgn") & !inherited, 0, "{status}");
    container.init.exit().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn one_pipe_may_be_both_outputs(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original copies the two, each at its own pace") {
        return;
    }
    let Some(server) = Server::start(runtime).await else { return };
    let paths = PipePaths::make(&server.work().join("one"), "init");
    let container = server.container("c").without_pipes().sh("echo out; echo err >&2; echo end");
    let container = container.request(|request| {
        with_pipes(request, &paths);
        request.stderr.clone_from(&request.stdout);
    });
    let mut pipes = paths.clone().open();
    let container = container.create().await.unwrap();
    assert_eq!(pipes.stdout_text().await, "out\nerr\nend\n");
    assert_eq!(container.init.exit().await, 0);
    server.finish().await;
}

fn with_pipes(request: &mut gantry_api::types::CreateContainerRequest, paths: &PipePaths) {
    request.stdin = paths.stdin.to_str().unwrap().to_owned();
    request.stdout = paths.stdout.to_str().unwrap().to_owned();
    request.stderr = paths.stderr.to_str().unwrap().to_owned();
}

/// A set of signals in /proc/pid/status.
fn signals(status: &str, set: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(set)).unwrap();
    u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
}

/// 2^n - 1, 2^n and 2^n + 1.
fn around_powers_of_two(exponents: &[u32]) -> impl Iterator<Item = usize> {
    exponents.iter().flat_map(|n| {
        let power = 2_usize.pow(*n);
        [power - 1, power, power + 1]
    })
}

fn md5(bytes: &[u8]) -> String {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };
    let mut command = Command::new("md5sum");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap().stdout;
    String::from_utf8(output).unwrap()[..32].to_owned()
}

/// Each stream, and each thing in its place that it cannot be.
#[rstest]
#[tokio::test]
async fn a_stream_that_cannot_be_opened_is_named(
    #[values("stdin", "stdout", "stderr")] stream: &str,
) {
    if improves("the process finds out") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let socket = server.work().join("a-socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    for path in [server.work(), &socket, &server.work().join("missing")] {
        let path = path.to_str().unwrap().to_owned();
        let container = server.container("c").without_pipes().request(|request| match stream {
            "stdin" => request.stdin.clone_from(&path),
            "stdout" => request.stdout.clone_from(&path),
            _ => request.stderr.clone_from(&path),
        });
        let status = container.create().await.unwrap_err();
        assert!(status.message().contains(&path), "{status}");
        assert_eq!(status.code(), Code::InvalidArgument);
        let fields = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(fields[0].field, stream);
    }
    server.finish().await;
}
