//! Whose telemetry it is: attributes by the names of OpenTelemetry's semantic conventions.

use std::{collections::BTreeMap, env, fmt::Write, fs, os::unix::ffi::OsStrExt};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{Resource, resource::EnvResourceDetector};
use sha2::{Digest, Sha256};

use crate::config::Config;

/// Of this server. What the configuration says has precedence over the environment, and that over the rest.
pub(super) fn of(config: &Config) -> Resource {
    let mut own = BTreeMap::from([
        ("service.name", "gantryd".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", instance(config)),
        ("os.type", "linux".to_owned()),
        ("process.pid", std::process::id().to_string()),
        ("process.executable.name", "gantryd".to_owned()),
    ]);
    let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    own.extend(host.map(|host| ("host.name", host.trim().to_owned())));
    let named = env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let given = config.otlp.attributes.iter();
    Resource::builder_empty()
        .with_attributes(own.into_iter().map(|(name, value)| KeyValue::new(name, value)))
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes(named.map(|name| KeyValue::new("service.name", name)))
        .with_attributes(given.map(|(name, value)| KeyValue::new(name.clone(), value.clone())))
        .build()
}

/// The same after a restart, and another for each server of each machine: a UUID (version 8) of the machine's id, which
/// itself is to be shown to nobody, and the state directory.
fn instance(config: &Config) -> String {
    let machine = fs::read("/etc/machine-id").or_else(|_| fs::read("/proc/sys/kernel/hostname"));
    let mut hash = Sha256::new();
    hash.update(machine.unwrap_or_default());
    hash.update(config.state_dir.as_os_str().as_bytes());
    uuid(hash.finalize().into())
}

fn uuid(hash: [u8; 32]) -> String {
    let mut text = String::new();
    for (at, byte) in hash.into_iter().take(16).enumerate() {
        let byte = match at {
            6 => byte & 0x0f | 0x80,
            8 => byte & 0x3f | 0x80,
            _ => byte,
        };
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        // A string takes everything.
        let _ = write!(text, "{dash}{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use opentelemetry::Key;

    use super::*;
    use crate::config::{Command, Config};

    fn config(line: &str) -> Config {
        match Command::parse(line.split(' ').map(Into::into)).unwrap() {
            Command::Serve(config) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_instance_is_a_server_of_a_machine() {
        let of_dir = |dir: &str| instance(&config(&format!("gantryd --state-dir {dir}")));
        assert_eq!(of_dir("/a"), of_dir("/a"));
        assert_ne!(of_dir("/a"), of_dir("/b"));
        assert_eq!(uuid([0xff; 32]), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }

    #[test]
    fn the_configuration_has_precedence() {
        let mut config = config("gantryd");
        let name = |config: &Config| of(config).get(&Key::new("service.name")).unwrap();
        assert_eq!(name(&config).as_str(), "gantryd");
        config.otlp.attributes.insert("service.name".to_owned(), "other".to_owned());
        assert_eq!(name(&config).as_str(), "other");
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        assert_eq!(of(&config).get(&Key::new("host.name")).unwrap().as_str(), host.trim());
    }
}
