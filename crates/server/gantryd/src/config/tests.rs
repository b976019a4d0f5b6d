//! What flags and files become.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt};

use super::*;

fn command(line: &str) -> Result<Command, ConfigError> {
    // Independent of containerd's file on this machine.
    Command::parse_beside(line.split(' ').map(OsString::from), Path::new("/no/such/file"))
}

pub(super) fn parse(line: &str) -> Result<Config, ConfigError> {
    match command(line)? {
        Command::Serve(config) => Ok(*config),
        other => panic!("{other:?}"),
    }
}

/// What is printed instead of serving.
pub(super) fn printed(line: &str) -> String {
    match command(line).unwrap() {
        Command::Print(text) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn flags_of_early_daemons_are_understood() {
    let config = parse(
        "/usr/bin/docker-containerd -l unix:///run/d.sock --metrics-interval=0 \
         --start-timeout 2m --state-dir /run/s --shim docker-containerd-shim \
         --runtime docker-runc --runtime-args --x --debug --pprof-address= --frobnicate=1",
    )
    .unwrap();
    assert_eq!(config.listen, [Path::new("/run/d.sock")]);
    assert_eq!(config.state_dir, Path::new("/run/s"));
    assert_eq!(config.shim_name, "docker-containerd-shim");
    assert_eq!(config.start_timeout, Duration::from_secs(120));
    assert_eq!(config.runtime_args, ["--x"]);
    assert_eq!(config.log_level, "debug");
    assert_eq!(config.ignored, ["--frobnicate=1"]);
}

#[test]
fn shims_are_called_after_the_server() {
    for (line, name) in [
        ("gantryd", "gantry-shim"),
        ("containerd", "containerd-shim"),
        ("/usr/bin/docker-containerd --debug", "docker-containerd-shim"),
        ("docker-containerd --shim other/containerd-shim", "containerd-shim"),
    ] {
        assert_eq!(parse(line).unwrap().shim_name, name, "{line}");
    }
}

#[test]
fn an_unknown_flag_is_an_error_under_our_own_name() {
    assert!(parse("gantryd --frobnicate=1").is_err());
    assert!(parse("gantryd stray").is_err());
}

#[test]
fn relative_paths_are_made_absolute() {
    let config = parse("gantryd -l here.sock --state-dir here").unwrap();
    assert!(config.listen[0].is_absolute() && config.state_dir.is_absolute());
    let runtime = |given: &str| parse(&format!("gantryd -r {given}")).unwrap().runtime;
    assert_eq!((runtime("crun"), runtime("/bin/crun")), ("crun".into(), "/bin/crun".into()));
    assert!(Path::new(&runtime("./crun")).is_absolute());
    assert!(parse("gantryd -l tcp://127.0.0.1:1").is_err());
}

#[test]
fn paths_need_not_be_utf_8() {
    let path = OsStr::from_bytes(b"unix:///run/\xff");
    let line = ["gantryd", "-l"].map(OsStr::new).into_iter().chain([path]);
    match Command::parse(line.map(OsString::from)).unwrap() {
        Command::Serve(config) => {
            assert_eq!(config.listen[0].as_os_str().as_bytes(), b"/run/\xff");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn layers_have_bounds_if_wanted() {
    assert_eq!(parse("gantryd").unwrap().layers, gantry_diff::Bounds::default());
    let config = parse("gantryd --layer-max-size 20G --layer-max-entries 7").unwrap();
    assert_eq!((config.layers.bytes, config.layers.entries), (Some(20 << 30), Some(7)));
    for none in ["--layer-max-size 0", "--layer-max-entries 0"] {
        assert!(parse(&format!("gantryd {none}")).is_err(), "{none}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "runtime = \"crun\"\nretain_count = 7\nlinger = \"0s\"\n").unwrap();
    let config =
        parse(&format!("gantryd --config {} --runtime runc", file.path().display())).unwrap();
    assert_eq!((config.runtime.as_str(), config.retain_count), ("runc", 7));
    fs::write(file.path(), "unknown = 1\n").unwrap();
    assert!(parse(&format!("gantryd --config {}", file.path().display())).is_err());
}

#[test]
fn there_may_be_several_sockets() {
    let config = parse("gantryd -l /a --listen unix:///b -l /a").unwrap();
    assert_eq!(config.listen, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(parse("gantryd").unwrap().listen, [Path::new(DEFAULT_SOCKET)]);
    assert!(parse("gantryd -l /a -l tcp://127.0.0.1:1").is_err());
    let file = tempfile::NamedTempFile::new().unwrap();
    let with_file = |text: &str, flags: &str| {
        fs::write(file.path(), text).unwrap();
        parse(&format!("gantryd --config {}{flags}", file.path().display()))
    };
    let many = "listen = [\"/a\", \"unix:///b\"]\n";
    assert_eq!(with_file(many, "").unwrap().listen, [Path::new("/a"), Path::new("/b")]);
    assert_eq!(with_file(many, " -l /c").unwrap().listen, [Path::new("/c")]);
    assert_eq!(with_file("listen = \"/a\"\n", "").unwrap().listen, [Path::new("/a")]);
    let error = with_file("listen = 1\n", "").unwrap_err().to_string();
    assert!(error.contains("a string or a list of strings"), "{error}");
}

/// Reading a pipe or /dev/zero would never end.
#[test]
fn only_a_file_is_a_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [pipe.as_path(), Path::new("/dev/zero"), dir.path()] {
        let error = parse(&format!("gantryd --config {}", path.display())).unwrap_err();
        let words = error.to_string();
        assert!(words.contains("must be a regular file"), "{words}");
    }
    let large = dir.path().join("large");
    fs::File::create(&large).unwrap().set_len(300 << 30).unwrap();
    let error = parse(&format!("gantryd --config {}", large.display())).unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
}
