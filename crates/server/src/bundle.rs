//! Reads a bundle's config.json: only what the service itself needs, and as leniently as a runtime
//! of any spec version would. The file is the caller's and is never written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::domain::{ConsoleSize, ProcessId, ProcessSpec, Rlimit, Stdio, User};

/// A bundle directory that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bundle {
    path: PathBuf,
    config: Config,
}

/// What config.json says. Whether it is right is for the runtime to say, in its own words; what
/// cannot be read here is as if it were not there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Config {
    init: ProcessSpec,
    cgroups_path: Option<String>,
    capability_list: bool,
}

/// Why a path is not a bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    #[error("must be an absolute path, is {0:?}")]
    Relative(PathBuf),
    #[error("must not contain '..': {0:?}")]
    Parent(PathBuf),
    #[error("{path}: {message}", path = .path.display())]
    NotADirectory { path: PathBuf, message: &'static str },
}

impl Bundle {
    /// Opens the bundle whose first process is to have these streams.
    pub(crate) fn open(path: &Path, stdio: Stdio) -> Result<Self, BundleError> {
        if !path.is_absolute() {
            return Err(BundleError::Relative(path.to_owned()));
        }
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(BundleError::Parent(path.to_owned()));
        }
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(not_a_directory(path, "not a directory")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_a_directory(path, "no such file or directory"));
            }
            Err(_) => return Err(not_a_directory(path, "permission denied")),
        }
        let config = fs::read(path.join("config.json"))
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .unwrap_or(Value::Null);
        Ok(Self { path: path.to_owned(), config: Config::read(&config, stdio) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn init(&self) -> &ProcessSpec {
        &self.config.init
    }

    /// Whether capabilities are a plain list, as before version 1.0.0-rc5 of the spec. A runtime that
    /// takes such a bundle wants those of further processes in the same shape.
    pub(crate) fn has_capability_list(&self) -> bool {
        self.config.capability_list
    }

    /// `linux.cgroupsPath`.
    pub(crate) fn cgroups_path(&self) -> Option<&str> {
        self.config.cgroups_path.as_deref()
    }
}

fn not_a_directory(path: &Path, message: &'static str) -> BundleError {
    BundleError::NotADirectory { path: path.to_owned(), message }
}

impl Config {
    fn read(config: &Value, stdio: Stdio) -> Self {
        let process = &config["process"];
        let user = &process["user"];
        Self {
            init: ProcessSpec {
                id: ProcessId::init(),
                terminal: process["terminal"].as_bool().unwrap_or(false),
                console_size: console_size(&process["consoleSize"]),
                user: User {
                    uid: number(&user["uid"]),
                    gid: number(&user["gid"]),
                    additional_gids: items(&user["additionalGids"]).map(number).collect(),
                },
                args: strings(&process["args"]),
                env: strings(&process["env"]),
                cwd: string(&process["cwd"]),
                stdio,
                capabilities: capabilities(&process["capabilities"]),
                apparmor_profile: string(&process["apparmorProfile"]),
                selinux_label: string(&process["selinuxLabel"]),
                no_new_privileges: process["noNewPrivileges"].as_bool().unwrap_or(false),
                rlimits: items(&process["rlimits"]).map(rlimit).collect(),
            },
            capability_list: process["capabilities"].is_array(),
            cgroups_path: config["linux"]["cgroupsPath"].as_str().map(str::to_owned),
        }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn strings(value: &Value) -> Vec<String> {
    items(value).map(string).collect()
}

fn number<N: TryFrom<u64> + Default>(value: &Value) -> N {
    value.as_u64().and_then(|number| number.try_into().ok()).unwrap_or_default()
}

/// A list before version 1.0.0-rc5 of the spec, since then an object of sets of which the bounding
/// one says what the process can ever have.
fn capabilities(value: &Value) -> Vec<String> {
    if value.is_object() { strings(&value["bounding"]) } else { strings(value) }
}

fn rlimit(value: &Value) -> Rlimit {
    Rlimit {
        kind: string(&value["type"]),
        soft: number(&value["soft"]),
        hard: number(&value["hard"]),
    }
}

fn console_size(value: &Value) -> Option<ConsoleSize> {
    let size = ConsoleSize { width: number(&value["width"]), height: number(&value["height"]) };
    (size.width > 0 && size.height > 0).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(config: &str) -> Bundle {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.json"), config).unwrap();
        Bundle::open(dir.path(), Stdio::default()).unwrap()
    }

    #[test]
    fn reads_both_shapes_of_capabilities() {
        let new = open(r#"{"process":{"capabilities":{"bounding":["CAP_KILL"],"ambient":[]}}}"#);
        let old = open(r#"{"process":{"capabilities":["CAP_KILL"]}}"#);
        assert_eq!(new.init().capabilities, ["CAP_KILL"]);
        assert_eq!(old.init().capabilities, ["CAP_KILL"]);
        assert!(old.has_capability_list() && !new.has_capability_list());
    }

    #[test]
    fn anything_at_all_is_read() {
        for odd in ["", "{", "[]", "null", "{\"process\":7}", "{\"process\":{\"args\":{\"a\":1}}}"]
        {
            assert_eq!(open(odd).init().args, Vec::<String>::new(), "{odd}");
        }
        let full = open(
            r#"{"process":{"terminal":true,"consoleSize":{"height":3,"width":4},"args":["a","b"],
                "user":{"uid":1,"gid":2,"additionalGids":[3]},"cwd":"/x",
                "rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":2}]},
               "linux":{"cgroupsPath":"/docker/x"}}"#,
        );
        assert_eq!(full.cgroups_path(), Some("/docker/x"));
        assert_eq!(full.init().console_size, Some(ConsoleSize { width: 4, height: 3 }));
        assert_eq!(full.init().user, User { uid: 1, gid: 2, additional_gids: vec![3] });
        assert_eq!(full.init().rlimits[0].hard, 2);
        assert_eq!(full.init().args, ["a", "b"]);
    }

    #[test]
    fn a_bundle_is_an_absolute_directory() {
        let open = |path: &str| Bundle::open(Path::new(path), Stdio::default());
        assert!(matches!(open("bundle"), Err(BundleError::Relative(_))));
        assert!(matches!(open("/tmp/../etc"), Err(BundleError::Parent(_))));
        assert!(matches!(open("/nowhere"), Err(BundleError::NotADirectory { .. })));
        assert!(matches!(open("/dev/null"), Err(BundleError::NotADirectory { .. })));
    }
}
