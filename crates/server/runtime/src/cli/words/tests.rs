//! Most messages here were recorded from runc 1.1.5 and crun 1.8.1.

use super::*;

fn word(output: &str) -> String {
    last_word(output).expect("a word")
}

#[test]
fn the_last_error_is_what_the_runtime_means() {
    let log = concat!(
        r#"{"level":"warning","msg":"old","time":"t"}"#,
        "\n",
        r#"{"level":"error","msg":"first","time":"t"}"#,
        "\n",
        r#"{"level":"error","msg":"last\nof all","time":"t"}"#,
        "\n",
        r#"{"level":"info","msg":"bye","time":"t"}"#,
        "\n"
    );
    assert_eq!(word(log), "last\nof all");
    assert_eq!(word("one\ntwo\n\n"), "two");
    assert_eq!(last_word("\n"), None);
    assert_eq!(word(r#"{"level":"warning","msg":"only this"}"#), "only this");
    assert_eq!(word("{\"level\":\"info\",\"msg\":\"on the way\"}\nand text\n"), "and text");
}

/// crun ends its log with an empty error after a hook has failed, and its process in the
/// container passes a whole entry on as a message.
#[test]
fn empty_and_nested_entries_of_crun() {
    let failed = "error executing hook `/bin/sh` (exit code: 1)";
    let log = concat!(
        r#"{"msg":"error executing hook `/bin/sh` (exit code: 1)","level":"error","time":"t"}"#,
        "\n",
        r#"{"msg":"","level":"error","time":"t"}"#,
        "\n"
    );
    assert_eq!(word(log), failed);
    let log = r#"{"msg":"{\"msg\":\"error executing hook `/bin/sh` (exit code: 1)\",\"level\":\"error\",\"time\":\"t\"}","level":"error","time":"t"}"#;
    assert_eq!(word(log), failed);
    assert_eq!(
        last_word(r#"{"msg":"","level":"error"}"#).unwrap(),
        r#"{"msg":"","level":"error"}"#
    );
}

/// The end of a Go program that crashes is a list of registers; its beginning says why.
#[test]
fn the_message_of_a_crash_is_its_first_line() {
    let crash = "fatal error: failed to reserve page summary memory\n\nruntime stack:\n\
                 runtime.throw({0x8f4f20?, 0x7ffcd9189ee0?})\n\truntime/panic.go:1047 +0x5d\n\
                 rip    0x46e5c1\nfs     0x0\ngs     0x0\n";
    assert_eq!(word(crash), "fatal error: failed to reserve page summary memory");
    assert_eq!(reason(Verb::Pause, &word(crash)), Reason::Exhausted);
    let crash = "some line\npanic: runtime error: index out of range [0] with length 0\n\n\
                 goroutine 1 [running]:\nmain.main()\n\t/x.go:4 +0x11\nexit status 2\n";
    assert_eq!(word(crash), "panic: runtime error: index out of range [0] with length 0");
    let crash = "runtime: failed to create new OS thread (have 2 already; errno=11)\n\
                 runtime: may need to increase max user processes (ulimit -u)\n\
                 fatal error: newosproc\n";
    assert_eq!(reason(Verb::Delete, &word(crash)), Reason::Exhausted);
}

#[test]
fn only_the_runtimes_own_word_says_that_an_id_is_taken() {
    for said in [
        "runc run failed: container with given ID already exists",
        "runc create failed: container with given ID already exists",
        "container with id exists: web",
        "container `t1` already exists",
    ] {
        assert_eq!(reason(Verb::Run, said), Reason::Taken, "{said}");
        assert_eq!(reason(Verb::Exec, said), Reason::Other, "{said}");
    }
    for said in [
        "runc run failed: unable to start container process: error during container init: error \
         running hook #0: error running hook: exit status 1, stdout: , stderr: container with \
         given ID already exists\n",
        "runc run failed: error running hook #0: error running hook: exit status 1, stdout: , \
         stderr: container `x` already exists",
        "mkdir /a: file already exists",
        "exec: \"already exists\": executable file not found in $PATH",
    ] {
        assert_ne!(reason(Verb::Run, said), Reason::Taken, "{said}");
    }
}

#[test]
fn what_the_caller_asked_for_cannot_be_run() {
    for said in [
        "runc run failed: unable to start container process: exec: \"no-such\": executable file \
         not found in $PATH",
        "exec failed: unable to start container process: exec: \"/bin/no-such\": stat \
         /bin/no-such: no such file or directory",
        "runc run failed: unable to start container process: exec: \"/tmp\": permission denied",
        "runc run failed: unable to start container process: error during container init: mkdir \
         /bin/sh: not a directory",
        "exec failed: unable to start container process: chdir to cwd (\"/no/such\") set in \
         config.json failed: no such file or directory",
        "runc run failed: invalid rootfs: stat /no/such: no such file or directory",
        "runc run failed: unable to start container process: error during container init: error \
         mounting \"/no/such\" to rootfs at \"/x\": stat /no/such: no such file or directory",
        "runc run failed: unable to start container process: error during container init: error \
         running hook #0: fork/exec /no/such/hook: no such file or directory",
        "runc run failed: unexpected EOF",
        "runc run failed: invalid character '\\x00' looking for beginning of value",
        "runc run failed: json: cannot unmarshal number into Go struct field Spec.process of type \
         specs.Process",
        "executable file `no-such` not found in $PATH: No such file or directory",
        "open executable: Operation not permitted",
        "open executable: Permission denied",
        "chdir `/bin/sh`: Not a directory",
        "error stat'ing file `/no/such`: No such file or directory",
        "load `config.json`: cannot parse the data: parse error: premature EOF",
    ] {
        assert_eq!(reason(Verb::Run, said), Reason::Request, "{said}");
        assert_eq!(reason(Verb::Exec, said), Reason::Request, "{said}");
        // Calls of these sub-commands name no file or program.
        for verb in [Verb::Pause, Verb::Update, Verb::Checkpoint, Verb::Delete] {
            assert_eq!(reason(verb, said), Reason::Other, "{verb:?}: {said}");
        }
    }
}

#[test]
fn what_the_host_lacks_is_not_the_callers_fault() {
    for said in [
        "CRIU version check failed: exec: \"criu\": executable file not found in $PATH",
        "runc restore failed: criu failed: type NOTIFY errno 0: no such file or directory",
        "could not load `libcriu.so.2`: No such file or directory",
        "unable to get cgroup freezer state: open /sys/fs/cgroup/freezer/x/freezer.state: no such \
         file or directory",
        "runc run failed: unable to start container process: error during container init: error \
         running hook #0: error running hook: exit status 1, stdout: , stderr: cat: x: no such \
         file or directory\n",
    ] {
        assert_eq!(reason(Verb::Restore, said), Reason::Other, "{said}");
    }
}

#[test]
fn a_host_that_has_no_more_is_said_to_be_exhausted() {
    for said in [
        "runc run failed: unable to create new parent process: unable to setup exec fifo: open \
         /run/runc/x/exec.fifo: too many open files",
        "open `/sys/fs/cgroup/cpuset/x/cpuset.mems`: Too many open files",
        "runc create failed: mkdir /run/runc/x: no space left on device",
        "writing file `/run/crun/x/status`: No space left on device",
        "clone: Resource temporarily unavailable",
        "fork/exec /proc/self/exe: cannot allocate memory",
    ] {
        for verb in [Verb::Run, Verb::Exec, Verb::Pause, Verb::Update] {
            assert_eq!(reason(verb, said), Reason::Exhausted, "{said}");
        }
    }
    for said in [
        "runc run failed: unable to start container process: error during container init: error \
         running hook #0: error running hook: exit status 1, stdout: , stderr: write: no space \
         left on device\n",
        "exec: \"no space left on device\": executable file not found in $PATH",
    ] {
        assert_ne!(reason(Verb::Run, said), Reason::Exhausted, "{said}");
    }
}

#[test]
fn a_container_that_the_runtime_does_not_know() {
    for said in [
        "container does not exist",
        "exec failed: container does not exist",
        "error opening file `/run/crun/nope/status`: No such file or directory",
        "cannot open directory '/run/crun/nope': No such file or directory",
    ] {
        assert_eq!(reason(Verb::Exec, said), Reason::Unknown, "{said}");
    }
}

#[test]
fn phrases_are_added_only_where_they_are_missing() {
    assert_eq!(
        passed_on("exec: \"x\": executable file not found in $PATH"),
        "exec: \"x\": executable file not found in $PATH"
    );
    assert_eq!(
        passed_on("executable file `x` not found in $PATH: No such file or directory"),
        "executable file `x` not found in $PATH: No such file or directory \
         (executable file not found) (no such file or directory)"
    );
    assert_eq!(
        passed_on("open executable: Operation not permitted"),
        "open executable: Operation not permitted (permission denied)"
    );
}

#[test]
fn long_words_keep_their_beginning_and_their_end() {
    let said = format!("exec: \"{}\": executable file not found in $PATH", "ä".repeat(70_000));
    let passed = passed_on(&said);
    assert!(passed.len() <= MAX_MESSAGE + 8, "{}", passed.len());
    assert!(passed.starts_with("exec: \"ä") && passed.ends_with("file not found in $PATH"));
    assert_eq!(passed_on("a\nb\t\0c"), "a b  c");
}

#[test]
fn what_is_printed_means_nothing_unless_it_is_a_crash() {
    let loader = "runc: error while loading shared libraries: libx.so.1: cannot open";
    assert_eq!(printed(Verb::Run, loader), Some((Reason::Other, loader.to_owned())));
    // As a container's own program may say.
    for said in ["container does not exist", "container with given ID already exists"] {
        assert_eq!(printed(Verb::Run, said).unwrap().0, Reason::Other, "{said}");
    }
    let crash =
        "runtime: failed to create new OS thread (have 2 already; errno=11)\nruntime: may\n";
    let (reason, said) = printed(Verb::Run, crash).unwrap();
    assert_eq!(reason, Reason::Exhausted);
    assert!(said.starts_with("runtime: failed to create new OS thread"), "{said}");
    assert_eq!(printed(Verb::Run, "\n"), None);
}
