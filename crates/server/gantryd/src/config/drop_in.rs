//! What is different when gantryd is installed in the place of containerd, under its name.

use std::{
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use lexopt::{Arg, ValueExt};
use toml::Value;

use super::{Config, ConfigError, Given};
use crate::services::containerd::{REVISION, VERSION};

/// The file that containerd reads if none is named.
pub(super) const DEFAULT_FILE: &str = "/etc/containerd/config.toml";

/// A name under which daemons start their runtime service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropIn {
    Containerd,
    /// Of Docker 1.11 to 18.06.
    DockerContainerd,
}

impl DropIn {
    /// Of a program that is called by this path.
    pub(super) fn called(program: &str) -> Option<Self> {
        let name = Path::new(program).file_name()?;
        [Self::Containerd, Self::DockerContainerd].into_iter().find(|known| name == known.name())
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::DockerContainerd => "docker-containerd",
        }
    }

    /// containerd's defaults.
    pub(super) fn defaults(self) -> Given {
        Given {
            listen: vec!["/run/containerd/containerd.sock".into()],
            state_dir: Some("/run/containerd".into()),
            root: Some("/var/lib/containerd".into()),
            ..Given::default()
        }
    }

    /// The default configuration file, if it is there.
    pub(super) fn file(self, path: &Path) -> Option<PathBuf> {
        let is_read = self == Self::Containerd && path.try_exists().unwrap_or(true);
        is_read.then(|| path.to_owned())
    }
}

/// A flag of containerd's that gantryd does not have, or has with another meaning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flag {
    Address,
    State,
    Level,
    /// containerd 0.2 listened where `-l` says, and later ones log at that level.
    ListenOrLevel,
}

impl Flag {
    pub(super) fn of(arg: &Arg<'_>) -> Option<Self> {
        match arg {
            Arg::Long("address") | Arg::Short('a') => Some(Self::Address),
            Arg::Long("state") => Some(Self::State),
            Arg::Long("log-level") => Some(Self::Level),
            Arg::Short('l') => Some(Self::ListenOrLevel),
            _ => None,
        }
    }

    pub(super) fn take(self, value: OsString, given: &mut Given) -> Result<(), lexopt::Error> {
        match self {
            Self::State => given.state_dir = Some(value.into()),
            Self::ListenOrLevel if !value.as_bytes().contains(&b'/') => {
                given.log_level = Some(level(&value.string()?));
            }
            Self::Address | Self::ListenOrLevel => given.listen = vec![PathBuf::from(value)],
            Self::Level => given.log_level = Some(level(&value.string()?)),
        }
        Ok(())
    }
}

/// The name here of a level of containerd's (logrus); anything else may be a filter.
pub(super) fn level(name: &str) -> String {
    match name {
        "fatal" | "panic" => "error",
        "warning" => "warn",
        other => other,
    }
    .to_owned()
}

/// Sub-commands that print something instead of serving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubCommand {
    /// Prints the default configuration.
    Default,
    /// Prints the configuration that is in force.
    Dump,
}

impl SubCommand {
    /// None means to serve; an unknown sub-command must not serve, as its caller waits for its end.
    pub(super) fn of(words: &[OsString]) -> Result<Option<Self>, ConfigError> {
        let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into()).collect();
        match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => Ok(None),
            ["config", "default"] => Ok(Some(Self::Default)),
            ["config", "dump"] => Ok(Some(Self::Dump)),
            _ => Err(ConfigError::SubCommand(words.join(" "))),
        }
    }
}

/// The words of `oci-hook`, which are another program's: not even `--help` is for the server.
pub(super) fn hook(args: &[OsString]) -> Option<&[OsString]> {
    let words = args.get(1..)?.strip_prefix(&[OsString::from("oci-hook")])?;
    Some(words.strip_prefix(&[OsString::from("--")]).unwrap_or(words))
}

/// The version, in containerd's form if invoked as containerd.
pub(super) fn version(drop_in: Option<DropIn>) -> String {
    match drop_in {
        // Name, package, version and revision.
        Some(name) => {
            format!("{} github.com/containerd/containerd {VERSION} {REVISION}\n", name.name())
        }
        None => format!("gantryd version {}\n", env!("CARGO_PKG_VERSION")),
    }
}

impl Config {
    /// As a configuration file of containerd's, version 2.
    pub(super) fn as_containerd(&self) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let path = |path: &Path| text(&path.to_string_lossy());
        let (uid, gid) = self.owner.unwrap_or_default();
        format!(
            "root = {}\nstate = {}\nversion = 2\n\n[debug]\n  level = {}\n\n\
             [grpc]\n  address = {}\n  gid = {gid}\n  uid = {uid}\n",
            path(&self.root),
            path(&self.state_dir),
            text(&self.log_level),
            path(self.sockets(&[]).first().map_or(Path::new(""), |socket| &socket.path)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{parse, printed};
    use super::*;

    /// The file that dockerd 20.10 writes for the containerd that it starts, with sample values.
    const OF_DOCKERD: &str = r#"
        version = 0
        root = "/var/lib/docker/containerd/daemon"
        state = "/run/docker/containerd/daemon"
        plugin_dir = ""
        disabled_plugins = ["cri"]
        oom_score = 0
        [grpc]
          address = "/run/docker/containerd/containerd.sock"
          tcp_address = ""
          uid = 3
          gid = 4
          max_recv_message_size = 16777216
        [ttrpc]
          address = ""
          uid = 0
        [debug]
          address = "/run/docker/containerd/containerd-debug.sock"
          level = "warning"
        [metrics]
          address = ""
          grpc_histogram = false
        [cgroup]
          path = ""
        [timeouts]
        [plugins]
          [plugins.linux]
            shim_debug = true
    "#;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    fn with(text: &str, name: &str) -> Result<Config, ConfigError> {
        let file = file(text);
        parse(&format!("{name} --config {}", file.path().display()))
    }

    #[test]
    fn flags_of_containerd() {
        let config = parse("containerd -a /run/a.sock --root /r --state /s -l warning").unwrap();
        assert_eq!((&*config.listen[0], config.root), (Path::new("/run/a.sock"), "/r".into()));
        assert_eq!((config.state_dir, config.log_level), ("/s".into(), "warn".into()));
        let config = parse("docker-containerd -l unix:///l --address=/a --log-level panic");
        let config = config.unwrap();
        assert_eq!((&*config.listen[0], config.log_level), (Path::new("/a"), "error".into()));
        assert_eq!(parse("containerd -l ./here").unwrap().log_level, "info");
        let config = parse("containerd -c /no/such/file").unwrap_err();
        assert!(config.to_string().contains("/no/such/file"));
        for line in ["gantryd -a /a", "gantryd --state /s", "gantryd -c /f", "gantryd config dump"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn places_of_containerd() {
        for (name, listen, root) in [
            ("containerd", "/run/containerd/containerd.sock", "/var/lib/containerd"),
            ("gantryd", "/run/gantry/gantryd.sock", "/var/lib/gantry"),
        ] {
            let config = parse(name).unwrap();
            assert_eq!((&*config.listen[0], config.root), (Path::new(listen), root.into()));
        }
    }

    #[test]
    fn the_file_of_a_daemon() {
        let config = with(OF_DOCKERD, "containerd").unwrap();
        assert_eq!(config.root, Path::new("/var/lib/docker/containerd/daemon"));
        assert_eq!(config.state_dir, Path::new("/run/docker/containerd/daemon"));
        assert_eq!(config.listen[0], Path::new("/run/docker/containerd/containerd.sock"));
        assert_eq!((config.owner, config.log_level.as_str()), (Some((3, 4)), "warn"));
        let mut ignored = config.ignored_keys;
        ignored.sort();
        let expected =
            ["debug.address", "disabled_plugins", "grpc.max_recv_message_size", "plugins"];
        assert_eq!(ignored, expected);
        let path = file(OF_DOCKERD);
        let line = format!("containerd --config {} --log-level debug", path.path().display());
        assert_eq!(parse(&line).unwrap().log_level, "debug");
    }

    #[test]
    fn versions_of_the_file() {
        for text in ["version = 1", "version = 2\nroot = \"\"", "version = 3\n[grpc]\ngid = 0"] {
            let config = with(text, "containerd").unwrap();
            assert_eq!((config.root, config.owner), ("/var/lib/containerd".into(), None), "{text}");
            assert!(config.ignored_keys.is_empty());
        }
        for (text, words) in [
            ("version = 4", "version: is 4"),
            ("version = \"2\"", "invalid type"),
            ("state = 1", "invalid type"),
            ("[grpc]\nuid = -1", "invalid value"),
            ("version = 2\nversion = 2", "duplicate key"),
        ] {
            let error = with(text, "containerd").unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn either_file_in_the_place_of_containerd() {
        let config = with("listen = \"/l\"\nroot = \"/r\"", "containerd").unwrap();
        assert_eq!((&*config.listen[0], config.root), (Path::new("/l"), "/r".into()));
        assert!(with("listen = \"/l\"\nno_such_key = 1", "containerd").is_err());
        assert!(with("version = 2", "gantryd").is_err(), "and in no other place");
    }

    #[test]
    fn the_file_that_nobody_names() {
        let path = file("version = 2\nroot = \"/r\"");
        let root = |name: &str| {
            let command = super::super::Command::parse_beside([name.into()], path.path()).unwrap();
            match command {
                super::super::Command::Serve(config) => config.root,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(root("/usr/bin/containerd"), Path::new("/r"));
        assert_eq!(root("docker-containerd"), Path::new("/var/lib/containerd"));
        assert_eq!(root("gantryd"), Path::new("/var/lib/gantry"));
    }

    /// Else a reload would take all rules away while the file is removed and written anew.
    #[test]
    fn a_file_that_was_read_has_to_be_there_at_a_reload() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        let read = || super::super::Command::parse_beside(["containerd".into()], &path).unwrap();
        let config = |command| match command {
            super::super::Command::Serve(config) => *config,
            other => panic!("{other:?}"),
        };
        let without = config(read());
        assert_eq!(without.file, None);
        assert!(read().unless_gone(&without).is_ok(), "it was not there before");

        fs::write(&path, "version = 2\n[[access]]\nuser = 0\nrole = \"admin\"").unwrap();
        let with = config(read().unless_gone(&without).unwrap());
        assert_eq!((with.file.as_ref(), with.access.rules.len()), (Some(&path), 1));
        assert!(read().unless_gone(&with).is_ok());

        fs::remove_file(&path).unwrap();
        let error = read().unless_gone(&with).unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        fs::write(&path, "").unwrap();
        assert_eq!(config(read().unless_gone(&with).unwrap()).access.rules.len(), 0);
    }

    #[test]
    fn what_is_printed_instead_of_serving() {
        let version = printed("/usr/bin/containerd --version");
        let words: Vec<&str> = version.trim_end().split(' ').collect();
        assert_eq!(words[..2], ["containerd", "github.com/containerd/containerd"]);
        assert!(words[2].starts_with("2.0.") && words[2].contains("+gantry"), "{version}");
        assert_eq!(words.len(), 4);
        assert!(printed("gantryd --version").starts_with("gantryd version "));
        let expected = "root = \"/var/lib/containerd\"\nstate = \"/run/containerd\"\nversion = 2\n\n\
             [debug]\n  level = \"info\"\n\n\
             [grpc]\n  address = \"/run/containerd/containerd.sock\"\n  gid = 0\n  uid = 0\n";
        assert_eq!(printed("containerd config default"), expected);
        assert_eq!(printed("containerd --root /r config default"), expected);
    }

    #[test]
    fn what_is_dumped_is_read_again() {
        let path = file(OF_DOCKERD);
        let line = format!("containerd -c {} --root /r\"oot config dump", path.path().display());
        let dumped = printed(&line);
        let config = with(&dumped, "containerd").unwrap();
        assert_eq!(config.as_containerd(), dumped);
        assert_eq!((config.root, config.owner), ("/r\"oot".into(), Some((3, 4))));
    }

    #[test]
    fn the_words_of_a_hook_are_not_for_the_server() {
        for line in ["oci-hook -- /p --help -x", "oci-hook /p --help -x"] {
            let words = line.split(' ').map(OsString::from);
            let args = std::iter::once("/usr/bin/containerd".into()).chain(words);
            let command = super::super::Command::parse(args).unwrap();
            let expected = ["/p", "--help", "-x"].map(OsString::from).to_vec();
            assert_eq!(command, super::super::Command::OciHook(expected), "{line}");
        }
        assert!(parse("gantryd oci-hook -- /p").is_err());
    }

    #[test]
    fn an_unknown_sub_command_never_serves() {
        for words in ["publish", "hook", "config", "config migrate", "config default x", "foo"] {
            let error = parse(&format!("containerd {words}")).unwrap_err().to_string();
            assert!(error.contains(&format!("{words:?}")), "{words}: {error}");
        }
    }
}
