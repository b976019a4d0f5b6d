//! Flags and a TOML file become one validated configuration.

mod access;
mod drop_in;
mod file;
mod given;
mod otlp;
mod place;
mod size;
mod time;

pub(crate) use access::Socket;
pub(crate) use file::check as check_file;
pub(crate) use otlp::{Headers, Otlp};
use std::{
    ffi::OsString,
    num::NonZero,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use drop_in::DropIn;
use gantry_diff::Bounds;
use gantry_disk::ReadError;
use gantry_kernel::cgroup::OwnLimits;
use gantry_runtime::{BadVariable, Variable};
use gantry_supervisor::OnShimDeath;
use given::Given;
use lexopt::{Arg, Parser, ValueExt};
use place::{absolute, beside_this_program, located, shim_name, socket};
use size::size;
use time::duration;

use crate::access::Policy;

const DEFAULT_SOCKET: &str = "/run/gantry/gantryd.sock";
const DEFAULT_STATE_DIR: &str = "/run/gantry/state";
const DEFAULT_ROOT: &str = "/var/lib/gantry";
const DEFAULT_RUNTIME: &str = "runc";
const ATTACH_BUFFER: std::ops::RangeInclusive<usize> = 64 << 10..=64 << 20;
const SHIM: &str = "gantry-shim";

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
      --attach-buffer SIZE  output that is kept of each process whose streams the server holds [256K]
      --memory-max SIZE     of the server alone; more kills it [none]
      --memory-high SIZE    of the server alone; more slows it down [none]
      --layer-max-size SIZE  of one layer of an image, unpacked; more is refused [none]
      --layer-max-entries N  of one layer of an image; more are refused [none]
      --otlp-endpoint URL   collector that telemetry is sent to, http://HOST:PORT [none]
      --otlp-sampling RATIO  of traces, 0 to 1, where the caller has not decided [1]
      --otlp-interval TIME  between two exports of metrics [60s]
      --log-level LEVEL     error, warn, info, debug or trace, or a filter [info]
      --log-format FORMAT   text or json [text]
      --debug               --log-level debug
      --config FILE         a TOML file with the same keys (with underscores), and tables for
                            further sockets and for roles: [[listener]], [[access]]; what is
                            called --otlp-NAME here is NAME in the table [otlp] there
      --version, --help

Called as containerd it listens on /run/containerd/containerd.sock, and knows containerd's flags
too: -c FILE, -a PATH (--address), --state DIR, -l PATH or LEVEL; and `config default`, `config dump`,
and `oci-hook`.

Times and sizes are numbers with a unit: 500ms, 90s, 2m, 1h; 512M, 1G.
";

/// What gantryd is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    /// Sockets with the mode 0660.
    pub(crate) listen: Vec<PathBuf>,
    /// User and group that these are for.
    pub(crate) owner: Option<(u32, u32)>,
    /// Further sockets. With those of `listen` there is at least one, and all serve the same.
    pub(crate) listener: Vec<Socket>,
    pub(crate) access: Policy,
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
    pub(crate) attach_buffer: usize,
    pub(crate) memory: OwnLimits,
    pub(crate) layers: Bounds,
    pub(crate) otlp: Otlp,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    /// The file that was read, if any was.
    pub(crate) file: Option<PathBuf>,
    /// Unknown flags, tolerated only under a name of containerd's.
    pub(crate) ignored: Vec<String>,
    /// Keys of containerd's configuration file that have no meaning here.
    pub(crate) ignored_keys: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Command {
    Serve(Box<Config>),
    /// Print something, and exit.
    Print(String),
    /// Be a hook that is this program with its arguments.
    OciHook(Vec<OsString>),
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
    #[error("{0}, which the configuration is from, is not there any more")]
    Gone(PathBuf),
    #[error("there is no sub-command {0:?}, only `config default` and `config dump`")]
    SubCommand(String),
    #[error("cannot find out {what}: {cause}")]
    Environment { what: &'static str, cause: std::io::Error },
}

impl Config {
    /// The keys of what is different in `other`, `log_level` and `access` aside.
    pub(crate) fn differing(&self, other: &Self) -> Vec<&'static str> {
        let same = [
            ("listen", self.listen == other.listen && self.owner == other.owner),
            ("listener", self.listener == other.listener),
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
            ("attach_buffer", self.attach_buffer == other.attach_buffer),
            ("memory_max", self.memory.max == other.memory.max),
            ("memory_high", self.memory.high == other.memory.high),
            ("layer_max_size", self.layers.bytes == other.layers.bytes),
            ("layer_max_entries", self.layers.entries == other.layers.entries),
            ("otlp", self.otlp == other.otlp),
            ("log_format", self.log_format == other.log_format),
        ];
        same.into_iter().filter(|(_, same)| !same).map(|(key, _)| key).collect()
    }
}

impl Command {
    /// Reads the command line, and the file it names.
    pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, ConfigError> {
        Self::parse_beside(args, Path::new(drop_in::DEFAULT_FILE))
    }

    /// The same for a server that has a configuration. If a file was read for that one, it must still be there, although a
    /// default file may be missing at the start: roles must not become void while the file is being replaced.
    pub(crate) fn parse_again(
        args: impl IntoIterator<Item = OsString>,
        now: &Config,
    ) -> Result<Self, ConfigError> {
        Self::parse(args)?.unless_gone(now)
    }

    fn unless_gone(self, earlier: &Config) -> Result<Self, ConfigError> {
        match (&self, &earlier.file) {
            (Self::Serve(new), Some(path)) if new.file.is_none() => {
                Err(ConfigError::Gone(path.clone()))
            }
            _ => Ok(self),
        }
    }

    fn parse_beside(
        args: impl IntoIterator<Item = OsString>,
        default_file: &Path,
    ) -> Result<Self, ConfigError> {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut parser = Parser::from_iter(args.clone());
        let drop_in = parser.bin_name().and_then(DropIn::called);
        if let Some(words) = drop_in.and_then(|_| drop_in::hook(&args)) {
            return Ok(Self::OciHook(words.to_vec()));
        }
        let mut flags = Given::default();
        let mut file = None;
        let mut ignored = Vec::new();
        let mut words = Vec::new();
        while let Some(arg) = parser.next()? {
            if let Some(flag) = drop_in.and_then(|_| drop_in::Flag::of(&arg)) {
                flag.take(parser.value()?, &mut flags)?;
                continue;
            }
            match arg {
                Arg::Long("version") | Arg::Short('v' | 'V') => {
                    return Ok(Self::Print(drop_in::version(drop_in)));
                }
                Arg::Long("help") | Arg::Short('h') => return Ok(Self::Print(HELP.to_owned())),
                Arg::Long("config") => file = Some(PathBuf::from(parser.value()?)),
                Arg::Short('c') if drop_in.is_some() => file = Some(parser.value()?.into()),
                Arg::Long("debug") => flags.log_level = Some("debug".to_owned()),
                Arg::Short('l') => flags.listen.push(parser.value()?.into()),
                Arg::Short('r') => flags.runtime = Some(parser.value()?.string()?),
                // For containerd 0.2's metrics and profiles, which are not served here.
                Arg::Long("metrics-interval" | "pprof-address" | "graphite-address") => {
                    parser.value()?;
                }
                Arg::Long(name) => {
                    let name = name.to_owned();
                    if !flags.set(&name, &mut parser)? {
                        if drop_in.is_none() {
                            return Err(Arg::Long(&name).unexpected().into());
                        }
                        ignored.push(skip(&name, &mut parser));
                    }
                }
                Arg::Value(word) if drop_in.is_some() => words.push(word),
                Arg::Short(name) if drop_in.is_some() => ignored.push(format!("-{name}")),
                other => return Err(other.unexpected().into()),
            }
        }
        let asked = drop_in.map(|_| drop_in::SubCommand::of(&words)).transpose()?.flatten();
        if let Some(drop_in::SubCommand::Default) = asked {
            let defaults = drop_in.map(DropIn::defaults).unwrap_or_default();
            return Ok(Self::Print(defaults.config(drop_in)?.as_containerd()));
        }
        let file = file.or_else(|| drop_in?.file(default_file));
        let given = file.as_deref().map(|path| file::read(path, drop_in.is_some())).transpose()?;
        let defaults = drop_in.map(DropIn::defaults).unwrap_or_default();
        let mut config = flags.or(given.unwrap_or_default()).or(defaults).config(drop_in)?;
        if asked.is_some() {
            return Ok(Self::Print(config.as_containerd()));
        }
        config.file = file;
        config.ignored = ignored;
        Ok(Self::Serve(Box::new(config)))
    }
}

/// Skips an unknown flag, and its value if it has one after a '='.
fn skip(name: &str, parser: &mut Parser) -> String {
    let value = parser.optional_value();
    value.map_or_else(|| format!("--{name}"), |value| format!("--{name}={}", value.display()))
}

impl Given {
    /// Invoked as containerd, shims get containerd's shim name.
    fn config(self, drop_in: Option<DropIn>) -> Result<Config, ConfigError> {
        let listener = access::sockets(&self.listener)?;
        let listen = match self.listen.is_empty() && listener.is_empty() {
            true => vec![PathBuf::from(DEFAULT_SOCKET)],
            false => sockets(&self.listen)?,
        };
        let runtime = self.runtime.unwrap_or_else(|| DEFAULT_RUNTIME.to_owned());
        Ok(Config {
            access: access::policy(&listener, &self.listener, &self.access)?,
            listen,
            owner: self.owner,
            listener,
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
                (None, Some(program)) => format!("{}-shim", program.name()).into(),
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
            attach_buffer: attach_buffer(self.attach_buffer)?,
            memory: OwnLimits {
                max: size("memory_max", self.memory_max)?,
                high: size("memory_high", self.memory_high)?,
            },
            layers: Bounds {
                bytes: size("layer_max_size", self.layer_max_size)?,
                entries: self.layer_max_entries.map(NonZero::get),
            },
            otlp: self.otlp.config()?,
            log_level: self.log_level.unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.as_deref().unwrap_or("text").parse()?,
            file: None,
            ignored: Vec::new(),
            ignored_keys: self.ignored_keys,
        })
    }
}

/// Less than a process can write at once would be no use, and every process can fill its own.
fn attach_buffer(given: Option<String>) -> Result<usize, ConfigError> {
    let bytes = size("attach_buffer", given)?.unwrap_or(256 << 10);
    let bytes = usize::try_from(bytes).ok().filter(|bytes| ATTACH_BUFFER.contains(bytes));
    bytes.ok_or_else(|| value("attach_buffer", "must be 64K to 64M".to_owned()))
}

/// Where to listen, each place once.
fn sockets(given: &[PathBuf]) -> Result<Vec<PathBuf>, ConfigError> {
    let mut sockets = Vec::new();
    for listen in given {
        let path = absolute("listen", socket("listen", listen)?)?;
        if !sockets.contains(&path) {
            sockets.push(path);
        }
    }
    Ok(sockets)
}

fn value(key: &'static str, problem: String) -> ConfigError {
    ConfigError::Value { key, problem }
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
