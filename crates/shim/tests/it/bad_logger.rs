//! Programs for output that fail, and launches that fail and end theirs.

use std::time::{Duration, Instant};

use gantry_shim_proto::{FromShim, Launch, LaunchError, ToShim};
use rustix::io::Errno;

use crate::harness::{Shim, is_gone, script};
use crate::logger::{COPY, logger, pid, program, slowly, start};

fn failure(shim: &mut Shim) -> LaunchError {
    let error = match shim.server.hear() {
        Some((FromShim::LaunchFailed(error), None)) => error,
        other => panic!("not failed: {other:?}"),
    };
    shim.ack();
    shim.assert_leaves();
    error
}

/// What the program is blamed for.
fn blame(shim: &mut Shim) -> String {
    match failure(shim) {
        LaunchError::Uri { uri, why } => {
            assert!(uri.starts_with("binary"), "{uri}");
            why
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_that_cannot_be_executed() {
    for (path, errno) in [
        ("/no/such/program", Errno::NOENT),
        ("/etc/passwd", Errno::ACCESS),
        ("/etc/passwd/below", Errno::NOTDIR),
        ("/bin", Errno::ACCESS),
    ] {
        let uri = format!("binary://{path}?key=value");
        let mut shim = Shim::launch(Launch { stdout: uri.clone(), ..script("touch ran") });
        let errno = errno.raw_os_error();
        assert_eq!(failure(&mut shim), LaunchError::Stdio { path: uri, errno });
    }
}

#[test]
fn one_that_ends_before_the_process_is_started() {
    for (text, how) in
        [("exit 3", "exit status 3"), ("kill -9 $$", "signal 9"), (":", "exit status 0")]
    {
        // The runtime takes longer than a program that has closed its pipe by ending.
        let mut shim = start(text, slowly("exit 0"));
        let why = format!("the program ended with {how} before the process was started");
        assert_eq!(blame(&mut shim), why);
        // Not by closing it, but after that.
        let later = format!("exec 5>&-; sleep 0.1; {text}");
        let mut shim = start(&later, slowly("exit 0"));
        assert_eq!(blame(&mut shim), why);
    }
}

#[test]
fn one_that_does_not_say_that_it_is_ready() {
    for (text, why) in [
        ("exec 5>&-; cat <&3", "the program did not say that it is ready"),
        ("exec 5>&-; sleep 1000", "the program did not say that it is ready"),
    ] {
        let mut shim = Shim::start();
        let stdout = program("binary-v2", &shim, text);
        shim.order(Launch { stdout, ..script("touch ran") });
        assert_eq!(blame(&mut shim), why);
        assert!(!shim.path("ran").exists());
    }
}

#[test]
fn one_that_is_never_ready() {
    let begin = Instant::now();
    let mut shim = start("echo $$ >$1/logger; sleep 1000 & wait", script("touch ran"));
    let pid = pid(&shim, "logger");
    assert_eq!(blame(&mut shim), "the program was not ready within 10 s");
    assert!(begin.elapsed() >= Duration::from_secs(10));
    assert!(is_gone(pid) && !shim.path("ran").exists());
}

/// Starts others, and is not ready.
const UNREADY: &str = "cd $1; sleep 1000 & echo $! >child; setsid sleep 1000 & echo $! >other
    echo $$ >logger; wait";

#[test]
fn a_launch_that_is_given_up_takes_it_along() {
    for hang_up in [false, true] {
        let mut shim = start(UNREADY, script("touch ran"));
        let pids = ["logger", "child", "other"].map(|name| pid(&shim, name));
        if hang_up {
            shim.hang_up();
            shim.assert_leaves();
        } else {
            shim.server.say(&ToShim::Abort);
            assert_eq!(failure(&mut shim), LaunchError::Aborted);
        }
        assert!(pids.into_iter().all(is_gone));
        assert!(!shim.path("ran").exists());
    }
}

#[test]
fn a_launch_that_fails_takes_it_along() {
    for argv in [vec!["/no/such/runtime"], vec!["/bin/sh", "-c", "exit 3"]] {
        let argv = argv.into_iter().map(str::to_owned).collect();
        let mut shim = start(COPY, Launch { argv, ..script("") });
        let error = failure(&mut shim);
        let expected = matches!(error, LaunchError::Exec { .. } | LaunchError::Runtime { .. });
        assert!(expected, "{error:?}");
        assert!(is_gone(pid(&shim, "logger")));
    }
}

#[test]
fn it_is_not_taken_for_the_process() {
    let text = "cd $1; sh -c 'echo $$ >child.tmp; mv child.tmp child; cat <&4' 5>&- &
        echo $$ >logger; until test -e child; do sleep 0.01; done; exec 5>&-; cat <&3";
    for name in ["logger", "child"] {
        let mut shim = start(text, script(&format!("cat {name} >pid")));
        match failure(&mut shim) {
            LaunchError::System { what, errno } => {
                assert_eq!(what, "find a child in the pid that the runtime named");
                assert_eq!(errno, Errno::CHILD.raw_os_error());
            }
            other => panic!("{other:?}"),
        }
        assert!(!shim.path("started.json").exists());
    }
}

#[test]
fn one_for_each_stream() {
    let mut shim = Shim::start();
    let (stdout, stderr) = (logger(&shim, COPY), logger(&shim, "exit 0"));
    shim.order(Launch { stdout, stderr, ..script("touch ran") });
    assert_eq!(blame(&mut shim), "stdout has another program, and one reads both");
    assert!(!shim.path("ran").exists() && !shim.path("logger").exists());
}
