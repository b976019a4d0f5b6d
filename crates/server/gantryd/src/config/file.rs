//! The configuration file: of gantryd, and of containerd where it takes containerd's place.

use std::{
    io,
    path::{Path, PathBuf},
};

use gantry_disk::{ReadError, read_regular};
use serde::{Deserialize, de::DeserializeOwned};
use toml::{Table, Value};

use super::{
    ConfigError, Given,
    access::{Listener, Rule},
    drop_in::level,
    otlp, value,
};

/// The most bytes of a configuration file, which has a few dozen lines.
const MAX_FILE: u64 = 1 << 20;

/// Keys by which a file shows that it is containerd's. `root` is a key of both.
const OF_CONTAINERD: [&str; 16] = [
    "version",
    "state",
    "temp",
    "plugin_dir",
    "grpc",
    "ttrpc",
    "debug",
    "metrics",
    "disabled_plugins",
    "required_plugins",
    "plugins",
    "oom_score",
    "cgroup",
    "proxy_plugins",
    "timeouts",
    "imports",
];

/// The latest version of containerd's file whose keys are where this code looks for them. A file without a version is
/// of version 1.
const LATEST_VERSION: u32 = 3;

/// The keys of containerd's file (its package cmd/containerd/server/config) that have a meaning here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Containerd {
    version: u32,
    root: PathBuf,
    state: PathBuf,
    grpc: Grpc,
    debug: Debug,
    /// Not containerd's: Gantry's own, which nobody may take for granted where they are not known.
    listener: Vec<Listener>,
    access: Vec<Rule>,
    otlp: otlp::Given,
    #[serde(flatten)]
    rest: Table,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Grpc {
    address: PathBuf,
    uid: u32,
    gid: u32,
    #[serde(flatten)]
    rest: Table,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Debug {
    level: String,
    #[serde(flatten)]
    rest: Table,
}

/// Reads a file; in containerd's place also one of containerd's.
pub(super) fn read(path: &Path, drop_in: bool) -> Result<Given, ConfigError> {
    let failed = |problem| ConfigError::Read { path: path.to_owned(), problem };
    let text = read_regular(path, MAX_FILE).map_err(failed)?;
    let text = String::from_utf8(text).map_err(|_| failed(not_utf8()))?;
    of_text(path, &text, drop_in)
}

fn of_text(path: &Path, text: &str, drop_in: bool) -> Result<Given, ConfigError> {
    if !drop_in || !is_containerds(&parse(path, text)?) {
        return parse(path, text);
    }
    containerds(parse(path, text)?)
}

/// See [`crate::untrusted::config`]. Only keys that are in the file are set, and no path is empty.
pub(crate) fn check(text: &str) {
    for drop_in in [false, true] {
        let Ok(given) = of_text(Path::new("/config.toml"), text, drop_in) else { continue };
        let is_containerds =
            drop_in && toml::from_str::<Table>(text).is_ok_and(|file| is_containerds(&file));
        if is_containerds {
            let given = given.listen.iter().chain(&given.state_dir).chain(&given.root);
            assert!(given.into_iter().all(|path| !path.as_os_str().is_empty()), "an empty path");
        }
    }
}

fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text)
        .map_err(|cause| ConfigError::Toml { path: path.to_owned(), cause: Box::new(cause) })
}

fn not_utf8() -> ReadError {
    ReadError::Io(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

fn is_containerds(file: &Table) -> bool {
    file.keys().any(|key| OF_CONTAINERD.contains(&key.as_str()))
}

/// An empty value counts as missing: clients of containerd write all keys.
fn containerds(file: Containerd) -> Result<Given, ConfigError> {
    if file.version > LATEST_VERSION {
        let problem = format!("is {}, must not be above {LATEST_VERSION}", file.version);
        return Err(value("version", problem));
    }
    let rest = [("", &file.rest), ("grpc.", &file.grpc.rest), ("debug.", &file.debug.rest)];
    let ignored = rest.into_iter().flat_map(|(place, rest)| {
        let said = rest.iter().filter(|(_, value)| !is_empty(value));
        said.map(move |(key, _)| format!("{place}{key}"))
    });
    let path = |path: PathBuf| (!path.as_os_str().is_empty()).then_some(path);
    Ok(Given {
        ignored_keys: ignored.collect(),
        listen: path(file.grpc.address).into_iter().collect(),
        owner: Some((file.grpc.uid, file.grpc.gid)).filter(|owner| *owner != (0, 0)),
        listener: file.listener,
        access: file.access,
        otlp: file.otlp,
        state_dir: path(file.state),
        root: path(file.root),
        log_level: (!file.debug.level.is_empty()).then(|| level(&file.debug.level)),
        ..Given::default()
    })
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Integer(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::Boolean(yes) => !yes,
        Value::Datetime(_) => false,
        Value::Array(values) => values.is_empty(),
        Value::Table(values) => values.values().all(is_empty),
    }
}
