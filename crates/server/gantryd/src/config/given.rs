//! The keys of the configuration, by whatever way they were given.

use std::{num::NonZero, path::PathBuf};

use lexopt::{Parser, ValueExt};
use serde::{Deserialize, Deserializer};

use super::{
    access::{Listener, Rule},
    otlp,
};

/// What was given, by file or by flag, before defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Given {
    #[serde(deserialize_with = "one_or_many")]
    pub(super) listen: Vec<PathBuf>,
    pub(super) listener: Vec<Listener>,
    pub(super) access: Vec<Rule>,
    #[serde(skip)]
    pub(super) owner: Option<(u32, u32)>,
    pub(super) state_dir: Option<PathBuf>,
    pub(super) root: Option<PathBuf>,
    pub(super) runtime: Option<String>,
    pub(super) runtime_args: Vec<String>,
    pub(super) runtime_env: Vec<String>,
    pub(super) shim_name: Option<String>,
    pub(super) shim_binary: Option<PathBuf>,
    pub(super) start_timeout: Option<String>,
    pub(super) runtime_timeout: Option<String>,
    pub(super) linger: Option<String>,
    pub(super) on_shim_death: Option<String>,
    pub(super) retain_count: Option<usize>,
    pub(super) attach_buffer: Option<String>,
    pub(super) memory_max: Option<String>,
    pub(super) memory_high: Option<String>,
    pub(super) layer_max_size: Option<String>,
    pub(super) layer_max_entries: Option<NonZero<u64>>,
    pub(super) otlp: otlp::Given,
    pub(super) log_level: Option<String>,
    pub(super) log_format: Option<String>,
    #[serde(skip)]
    pub(super) ignored_keys: Vec<String>,
}

impl Given {
    /// Takes the value of a flag; false if there is no such flag.
    pub(super) fn set(&mut self, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
        match name {
            "listen" => self.listen.push(parser.value()?.into()),
            "state-dir" => self.state_dir = Some(parser.value()?.into()),
            "root" => self.root = Some(parser.value()?.into()),
            "runtime" => self.runtime = Some(parser.value()?.string()?),
            "runtime-args" => self.runtime_args.push(parser.value()?.string()?),
            "runtime-env" => self.runtime_env.push(parser.value()?.string()?),
            "shim" => self.shim_name = Some(parser.value()?.string()?),
            "shim-binary" => self.shim_binary = Some(parser.value()?.into()),
            "start-timeout" => self.start_timeout = Some(parser.value()?.string()?),
            "runtime-timeout" => self.runtime_timeout = Some(parser.value()?.string()?),
            "linger" => self.linger = Some(parser.value()?.string()?),
            "on-shim-death" => self.on_shim_death = Some(parser.value()?.string()?),
            "retain-count" => self.retain_count = Some(parser.value()?.parse()?),
            "attach-buffer" => self.attach_buffer = Some(parser.value()?.string()?),
            "memory-max" => self.memory_max = Some(parser.value()?.string()?),
            "memory-high" => self.memory_high = Some(parser.value()?.string()?),
            "layer-max-size" => self.layer_max_size = Some(parser.value()?.string()?),
            "layer-max-entries" => self.layer_max_entries = Some(parser.value()?.parse()?),
            "otlp-endpoint" => self.otlp.endpoint = Some(parser.value()?.string()?),
            "otlp-sampling" => self.otlp.sampling = Some(parser.value()?.parse()?),
            "otlp-interval" => self.otlp.interval = Some(parser.value()?.string()?),
            "log-level" => self.log_level = Some(parser.value()?.string()?),
            "log-format" => self.log_format = Some(parser.value()?.string()?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Flags have precedence over the file.
    pub(super) fn or(self, file: Self) -> Self {
        Self {
            // What is listened on by default is no addition to the sockets of a file.
            listen: match self.listen.is_empty() && self.listener.is_empty() {
                true => file.listen,
                false => self.listen,
            },
            listener: if self.listener.is_empty() { file.listener } else { self.listener },
            access: if self.access.is_empty() { file.access } else { self.access },
            owner: self.owner.or(file.owner),
            state_dir: self.state_dir.or(file.state_dir),
            root: self.root.or(file.root),
            runtime: self.runtime.or(file.runtime),
            runtime_args: if self.runtime_args.is_empty() {
                file.runtime_args
            } else {
                self.runtime_args
            },
            runtime_env: file.runtime_env.into_iter().chain(self.runtime_env).collect(),
            shim_name: self.shim_name.or(file.shim_name),
            shim_binary: self.shim_binary.or(file.shim_binary),
            start_timeout: self.start_timeout.or(file.start_timeout),
            runtime_timeout: self.runtime_timeout.or(file.runtime_timeout),
            linger: self.linger.or(file.linger),
            on_shim_death: self.on_shim_death.or(file.on_shim_death),
            retain_count: self.retain_count.or(file.retain_count),
            attach_buffer: self.attach_buffer.or(file.attach_buffer),
            memory_max: self.memory_max.or(file.memory_max),
            memory_high: self.memory_high.or(file.memory_high),
            layer_max_size: self.layer_max_size.or(file.layer_max_size),
            layer_max_entries: self.layer_max_entries.or(file.layer_max_entries),
            otlp: self.otlp.or(file.otlp),
            log_level: self.log_level.or(file.log_level),
            log_format: self.log_format.or(file.log_format),
            ignored_keys: [self.ignored_keys, file.ignored_keys].concat(),
        }
    }
}

/// A path, or a list of paths.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum OneOrMany {
        One(PathBuf),
        Many(Vec<PathBuf>),
    }
    Ok(match OneOrMany::deserialize(from)? {
        OneOrMany::One(path) => vec![path],
        OneOrMany::Many(paths) => paths,
    })
}
