//! Flags and a TOML file become one validated configuration.

mod given;
mod size;
mod time;

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use gantry_disk::{ReadError, read_regular};
use gantry_kernel::cgroup::OwnLimits;
use gantry_runtime::{BadVariable, Variable};
use gantry_supervisor::OnShimDeath;
use given::Given;
use lexopt::{Arg, Parser, ValueExt};
use size::size;
use time::duration;

const DEFAULT_SOCKET: &str = "/run/gantry/gantryd.sock";
const DEFAULT_STATE_DIR: &str = "/run/gantry/state";
const DEFAULT_ROOT: &str = "/var/lib/gantry";
const DEFAULT_RUNTIME: &str = "runc";
const SHIM: &str = "gantry-shim";

/// Names under which a daemon of old starts its runtime service, with flags of old.
const DROP_IN_NAMES: [&str; 2] = ["containerd", "docker-containerd"];

pub(crate) const HELP: &str = "\
gantryd: a gRPC-only container runtime service

  -l, --listen PATH         unix socket, also as unix://PATH; may be repeated [/run/gantry/gantryd.sock]
      --state-dir DIR       what must survive a restart of gantryd [/run/gantry/state]
      --root DIR            what must survive a boot [/var/lib/gantry]
  -r, --runtime NAME|PATH   runc-compatible runtime of containers that name none [runc]
      --runtime-args ARG    before the runtime's sub-command; may be repeated
      --runtime-env NAME[=VALUE]  a variable for the runtime beside PATH; may be repeated
      --shim NAME           what the shims' processes are called [gantry-shim]
      --shim-binary PATH    the shim [beside gantryd]
      --start-timeout TIME  how long the runtime may take to start a process [2m]
      --runtime-timeout TIME  the same for its other calls [1m]
      --linger TIME         how long unread output outlives its process [10s]
      --on-shim-death adopt|kill  what to do with a process without a shim [adopt]
      --retain-count N      events kept for replay [500]
      --memory-max SIZE     of the server alone; more kills it [none]
      --memory-high SIZE    of the server alone; more slows it down [none]
      --log-level LEVEL     error, warn, info, debug or trace, or a filter [info]
      --log-format FORMAT   text or json [text]
      --debug               --log-level debug
      --config FILE         a TOML file with the same keys (with underscores)
      --version, --help

Times and sizes are numbers with a unit: 500ms, 90s, 2m, 1h; 512M, 1G.
";

/// What gantryd is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// All serve the same; at least one.
    pub(crate) listen: Vec<PathBuf>,
    pub(crate) state_dir: PathBuf,
    pub(crate) root: PathBuf,
    pub(crate) runtime: String,
    pub(crate) runtime_args: Vec<String>,
    pub(crate) runtime_env: Vec<Variable>,
    pub(crate) shim_name: OsString,
    pub(crate) shim_binary: PathBuf,
    pub(crate) start_timeout: Duration,
    pub(crate) runtime_timeout: Duration,
    pub(crate) linger: Duration,
    pub(crate) on_shim_death: OnShimDeath,
    pub(crate) retain_count: usize,
    pub(crate) memory: OwnLimits,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    /// Unknown flags, tolerated only under a name of containerd's.
    pub(crate) ignored: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Serve(Box<Config>),
    Version,
    Help,
}

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    Flags(#[from] lexopt::Error),
    #[error("{key}: {problem}")]
    Value { key: &'static str, problem: String },
    #[error("cannot read {path}: {problem}", path = .path.display())]
    Read { path: PathBuf, problem: ReadError },
    #[error("{path}: {cause}", path = .path.display())]
    Toml { path: PathBuf, cause: Box<toml::de::Error> },
    #[error("cannot tell {what}: {cause}")]
    Environment { what: &'static str, cause: std::io::Error },
}

impl Config {
    /// The keys of what is different in `other`, `log_level` aside.
    pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("listen", self.listen == other.listen),
            ("state_dir", self.state_dir == other.state_dir),
            ("root", self.root == other.root),
            ("runtime", self.runtime == other.runtime),
            ("runtime_args", self.runtime_args == other.runtime_args),
            ("runtime_env", self.runtime_env == other.runtime_env),
            ("shim_name", self.shim_name == other.shim_name),
            ("shim_binary", self.shim_binary == other.shim_binary),
            ("start_timeout", self.start_timeout == other.start_timeout),
            ("runtime_timeout", self.runtime_timeout == other.runtime_timeout),
            ("linger", self.linger == other.linger),
            ("on_shim_death", self.on_shim_death == other.on_shim_death),
            ("retain_count", self.retain_count == other.retain_count),
            ("memory_max", self.memory.max == other.memory.max),
            ("memory_high", self.memory.high == other.memory.high),
            ("log_format", self.log_format == other.log_format),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

impl Command {
    /// Reads the command line, and the file it names.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        let mut parser = Parser::from_iter(args);
        let program = parser.bin_name().and_then(|path| Path::new(path).file_name());
        let program = program.and_then(OsStr::to_str).filter(|name| DROP_IN_NAMES.contains(name));
        let program = program.map(str::to_owned);
        let drop_in = program.is_some();
        let mut flags = Given::default();
        let mut file = None;
        let mut ignored = Vec::new();
        while let Some(arg) = parser.next()? {
            match arg {
                Arg::Long("version") | Arg::Short('v' | 'V') => return Ok(Self::Version),
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Help),
                Arg::Long("config") => file = Some(PathBuf::from(parser.value()?)),
                Arg::Long("debug") => flags.log_level = Some("debug".to_owned()),
                Arg::Short('l') => flags.listen.push(parser.value()?.into()),
                Arg::Short('r') => flags.runtime = Some(parser.value()?.string()?),
                // Of services of old; there is nothing here that it would change.
                Arg::Long("metrics-interval" | "pprof-address" | "graphite-address") => {
                    parser.value()?;
                }
                Arg::Long(name) => {
                    let name = name.to_owned();
                    if !flags.set(&name, &mut parser)? {
                        if !drop_in {
                            return Err(Arg::Long(&name).unexpected().into());
                        }
                        ignored.push(skip(&name, &mut parser));
                    }
                }
                other if drop_in => {
                    if let Arg::Value(value) = other {
                        ignored.push(value.to_string_lossy().into_owned());
                    }
                }
                other => return Err(other.unexpected().into()),
            }
        }
        let file = file.map(|path| read(&path)).transpose()?.unwrap_or_default();
        let mut config = flags.or(file).config(program.as_deref())?;
        config.ignored = ignored;
        Ok(Self::Serve(Box::new(config)))
    }
}

/// Skips a flag that is not known, and its value if it has one behind a '='.
fn skip(name: &str, parser: &mut Parser) -> String {
    let value = parser.optional_value();
    value.map_or_else(|| format!("--{name}"), |value| format!("--{name}={}", value.display()))
}

/// Bytes of a configuration file, which has some dozen lines.
const MAX_FILE: u64 = 1 << 20;

fn not_utf8() -> ReadError {
    let error = std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8");
    ReadError::Io(error)
}

fn read(path: &Path) -> Result<Given, ConfigError> {
    let failed = |problem| ConfigError::Read { path: path.to_owned(), problem };
    let text = read_regular(path, MAX_FILE).map_err(failed)?;
    let text = String::from_utf8(text).map_err(|_| failed(not_utf8()))?;
    toml::from_str(&text)
        .map_err(|cause| ConfigError::Toml { path: path.to_owned(), cause: Box::new(cause) })
}

impl Given {
    /// Invoked as containerd, shims get containerd's shim name.
    fn config(self, drop_in: Option<&str>) -> Result<Config, ConfigError> {
        let listen = sockets(self.listen)?;
        let runtime = self.runtime.unwrap_or_else(|| DEFAULT_RUNTIME.to_owned());
        Ok(Config {
            listen,
            state_dir: absolute(
                "state_dir",
                &self.state_dir.unwrap_or_else(|| PathBuf::from(DEFAULT_STATE_DIR)),
            )?,
            root: absolute("root", &self.root.unwrap_or_else(|| PathBuf::from(DEFAULT_ROOT)))?,
            runtime: located(runtime)?,
            runtime_args: self.runtime_args,
            runtime_env: self
                .runtime_env
                .iter()
                .map(|text| text.parse())
                .collect::<Result<_, BadVariable>>()
                .map_err(|error| value("runtime_env", error.to_string()))?,
            shim_name: match (&self.shim_name, drop_in) {
                (None, Some(program)) => format!("{program}-shim").into(),
                (name, _) => shim_name(name.as_deref()),
            },
            shim_binary: match self.shim_binary {
                Some(path) => absolute("shim_binary", &path)?,
                None => beside_this_program()?,
            },
            start_timeout: duration("start_timeout", self.start_timeout, "2m")?,
            runtime_timeout: duration("runtime_timeout", self.runtime_timeout, "1m")?,
            linger: duration("linger", self.linger, "10s")?,
            on_shim_death: match self.on_shim_death.as_deref() {
                None | Some("adopt") => OnShimDeath::Adopt,
                Some("kill") => OnShimDeath::Kill,
                Some(other) => {
                    let problem = format!("must be \"adopt\" or \"kill\", is {other:?}");
                    return Err(value("on_shim_death", problem));
                }
            },
            retain_count: self.retain_count.unwrap_or(500),
            memory: OwnLimits {
                max: size("memory_max", self.memory_max)?,
                high: size("memory_high", self.memory_high)?,
            },
            log_level: self.log_level.unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.as_deref().unwrap_or("text").parse()?,
            ignored: Vec::new(),
        })
    }
}

/// `--shim` only names the processes: a path there is another program's, which is never run.
fn shim_name(name: Option<&str>) -> OsString {
    let name = name.and_then(|name| Path::new(name).file_name());
    name.map_or_else(|| OsString::from(SHIM), OsString::from)
}

/// Where to listen, each place once.
fn sockets(mut given: Vec<PathBuf>) -> Result<Vec<PathBuf>, ConfigError> {
    if given.is_empty() {
        given.push(PathBuf::from(DEFAULT_SOCKET));
    }
    let mut sockets = Vec::new();
    for listen in &given {
        let path = absolute("listen", socket(listen)?)?;
        if !sockets.contains(&path) {
            sockets.push(path);
        }
    }
    Ok(sockets)
}

/// What is behind `unix://`, which daemons of old put before a path.
fn socket(listen: &Path) -> Result<&Path, ConfigError> {
    let bytes = listen.as_os_str().as_bytes();
    let path = bytes.strip_prefix(b"unix://").unwrap_or(bytes);
    if path.windows(3).any(|part| part == b"://") {
        let problem = format!("only unix sockets are served, not {}", listen.display());
        return Err(value("listen", problem));
    }
    Ok(Path::new(OsStr::from_bytes(path)))
}

/// Makes the path absolute: shims run in other directories.
fn located(runtime: String) -> Result<String, ConfigError> {
    if !runtime.contains('/') {
        return Ok(runtime);
    }
    let path = absolute("runtime", Path::new(&runtime))?;
    path.into_os_string().into_string().map_err(|path| {
        value("runtime", format!("must be UTF-8 with its directory, is {}", path.display()))
    })
}

fn value(key: &'static str, problem: String) -> ConfigError {
    ConfigError::Value { key, problem }
}

fn absolute(key: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| value(key, format!("{path:?}: {error}")))
}

/// Beside the real executable, even if started through a link named containerd.
fn beside_this_program() -> Result<PathBuf, ConfigError> {
    let program = std::env::current_exe().map_err(|cause| ConfigError::Environment {
        what: "where this program is, to find the shim",
        cause,
    })?;
    Ok(program.with_file_name(SHIM))
}

impl FromStr for LogFormat {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(value("log_format", format!("must be \"text\" or \"json\", is {name:?}"))),
        }
    }
}

#[cfg(test)]
mod tests;
