//! Output into files, by URI and by path.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use gantry_shim_proto::{FromShim, Launch, LaunchError, WaitStatus};
use rustix::io::Errno;

use crate::bundle::Bundle;
use crate::harness::{Pipe, Shim, detached, read_all, script, sized};

/// A process runs to its end.
fn run(launch: Launch) {
    let mut shim = Shim::launch(launch);
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    shim.ack();
    shim.assert_leaves();
}

/// The same, with this pipe among its outputs; what is in the pipe.
fn run_into(pipe: &Pipe, launch: Launch) -> String {
    let reader = pipe.reader();
    let reading = std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(reader));
        run(launch);
        reading.join()
    });
    String::from_utf8(reading.unwrap()).unwrap()
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_and_its_directories_are_made_and_appended_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b c/log");
    let stdout = uri(&path).replace(' ', "%20");
    for round in ["one", "two"] {
        let command = format!("echo {round}; echo {round} err >&2");
        run(Launch { stdout: stdout.clone(), stderr: stdout.clone(), ..detached(&command) });
    }
    assert_eq!(read(&path), "one\none err\ntwo\ntwo err\n");
    let umask = 0o777
        & !{
            let made = dir.path().join("made");
            std::fs::create_dir(&made).unwrap();
            mode(&made)
        };
    assert_eq!(mode(&path), 0o644 & !umask);
    assert_eq!(mode(&dir.path().join("a/b c")), 0o755 & !umask);
}

#[test]
fn both_streams_are_one_descriptor() {
    let dir = tempfile::tempdir().unwrap();
    let existing = dir.path().join("existing");
    std::fs::write(&existing, "").unwrap();
    let path = existing.to_str().unwrap().to_owned();
    let new = |name| dir.path().join(name);
    for (file, stdout, stderr) in [
        (new("alike"), uri(&new("alike")), uri(&new("alike"))),
        // As with containerd, whose clients may name stdout alone.
        (new("alone"), uri(&new("alone")), String::new()),
        (existing, path.clone(), path),
    ] {
        // Both have one file offset.
        run(Launch { stdout, stderr, ..detached("echo out; grep ^pos /proc/self/fdinfo/2 >&2") });
        assert_eq!(read(&file), "out\npos:\t4\n", "{}", file.display());
    }
}

#[test]
fn each_stream_goes_to_its_own_file() {
    let dir = tempfile::tempdir().unwrap();
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let pipe = Pipe::new();
    let command = "echo out; echo err >&2";
    run(Launch { stdout: uri(&out), stderr: uri(&err), ..detached(command) });
    run(Launch { stderr: uri(&err), ..detached(command) });
    let stderr = format!("fifo://{}", pipe.name());
    let launch = Launch { stdout: uri(&out), stderr, ..detached(command) };
    assert_eq!(run_into(&pipe, launch), "err\n");
    assert_eq!((read(&out), read(&err)), ("out\nout\n".to_owned(), "err\nerr\n".to_owned()));
}

#[test]
fn what_is_there_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = Pipe::new();
    let stdout = format!("file://{}", pipe.name());
    let launch = Launch { stdout, ..detached("echo out; echo err >&2") };
    assert_eq!(run_into(&pipe, launch), "out\nerr\n");
    let (link, target) = (dir.path().join("link"), dir.path().join("target"));
    symlink(&target, &link).unwrap();
    run(Launch { stdout: uri(&link), ..detached("echo out") });
    assert_eq!(read(&target), "out\n");
    run(Launch { stdout: "file:///dev/null".to_owned(), ..detached("echo out") });
}

/// Why a launch fails before its "runtime" is executed.
fn refusal(stdout: &str, stderr: &str) -> LaunchError {
    let (stdout, stderr) = (stdout.to_owned(), stderr.to_owned());
    let mut shim = Shim::launch(Launch { stdout, stderr, ..script("touch ran") });
    let error = match shim.server.hear() {
        Some((FromShim::LaunchFailed(error), None)) => error,
        other => panic!("not failed: {other:?}"),
    };
    assert!(!shim.path("ran").exists());
    shim.ack();
    shim.assert_leaves();
    error
}

#[test]
fn files_that_cannot_be_made() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (path, errno) in [
        (dir.path().to_owned(), Errno::ISDIR),
        (PathBuf::from("/"), Errno::ISDIR),
        (file.join("below"), Errno::NOTDIR),
        (file.join("below/deeper"), Errno::NOTDIR),
        (PathBuf::from("/proc/no/file"), Errno::NOENT),
    ] {
        let path = uri(&path);
        let errno = errno.raw_os_error();
        let expected = LaunchError::Stdio { path: path.clone(), errno };
        assert_eq!(refusal(&path, ""), expected);
        assert_eq!(refusal("", &path), expected);
    }
}

#[test]
fn uris_that_are_none_of_the_known() {
    for (uri, why) in [
        ("ftp://host/file", "unknown scheme \"ftp\": not fifo, file, binary or binary-v2"),
        ("file://host/file", "its path begins with a third slash, as it names no host"),
        ("file:///%2", "a percent sign has no two hexadecimal digits behind it"),
    ] {
        let expected = LaunchError::Uri { uri: uri.to_owned(), why: why.to_owned() };
        assert_eq!(refusal(uri, ""), expected);
        assert_eq!(refusal("/dev/null", uri), expected);
    }
    // No more than a server takes.
    let long = format!("ftp://{}", "\u{fc}".repeat(5000));
    assert!(matches!(refusal(&long, ""), LaunchError::Uri { uri, .. } if uri.len() == 4096));
}

#[test]
fn a_terminal_s_output() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/log");
    let command = sized("40 100", "stty size; echo err >&2; head -c 100000 /dev/zero");
    let bundle = Bundle::new(&command, true);
    let mut shim = Shim::start();
    let stdout = uri(&path);
    shim.order(Launch { stdout, width: 100, height: 40, ..bundle.run(&shim) });
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(0));
    shim.ack();
    shim.assert_leaves();
    let text = read(&path);
    assert!(text.starts_with("40 100\r\nerr\r\n\0"), "{:?}", &text[..20]);
    assert_eq!(text.len(), 13 + 100_000);
}

#[test]
fn a_terminal_s_output_that_a_full_disk_does_not_take() {
    let bundle = Bundle::new("head -c 100000 /dev/zero; exit 7", true);
    let mut shim = Shim::start();
    shim.order(Launch { stdout: "file:///dev/full".to_owned(), ..bundle.run(&shim) });
    shim.server.hear_launched();
    assert_eq!(shim.server.hear_exited(), WaitStatus::Code(7));
    shim.ack();
    shim.assert_leaves();
}
