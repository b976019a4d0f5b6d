//! Checks what is asked for, and turns it into the daemon's own types.

use std::path::{Path, PathBuf};

use gantry_client::Signal;

use crate::{
    Error, Result,
    model::{
        BindMount, Bridge, Config, Networking, Port, Protocol, Resources, RestartPolicy, Root,
        RootSource, User,
    },
    names, networks,
    proto::{self, networking::Mode, root_filesystem::Source},
    start,
};

/// Seconds from the stop signal to SIGKILL.
const STOP_TIMEOUT: u32 = 10;

pub(crate) fn config(config: Option<proto::ContainerConfig>) -> Result<Config> {
    let config = config.ok_or_else(|| Error::invalid("config", "is missing"))?;
    if config.args.first().is_none_or(String::is_empty) {
        return Err(Error::invalid("args", "names no program"));
    }
    if let Some(env) = config.env.iter().find(|env| env.starts_with('=') || !env.contains('=')) {
        return Err(Error::invalid("env", format!("{env:?}: want NAME=value")));
    }
    let restart = restart_policy(config.restart_policy.unwrap_or_default())?;
    if config.auto_remove && restart != RestartPolicy::No {
        return Err(Error::invalid("auto_remove", "does not go with a restart policy"));
    }
    let stop_timeout = config.stop_timeout_seconds.unwrap_or(STOP_TIMEOUT);
    Ok(Config {
        args: config.args,
        env: config.env,
        cwd: absolute("cwd", if config.cwd.is_empty() { "/" } else { &config.cwd })?,
        user: config.user.map(user).unwrap_or_default(),
        terminal: config.terminal,
        root: root(config.root)?,
        mounts: config.mounts.iter().map(bind_mount).collect::<Result<_>>()?,
        hostname: optional_name("hostname", config.hostname)?,
        domainname: optional_name("domainname", config.domainname)?,
        networking: networking(config.networking)?,
        restart,
        auto_remove: config.auto_remove,
        stop_signal: stop_signal(config.stop_signal)?,
        stop_timeout: std::time::Duration::from_secs(stop_timeout.into()),
        runtime: config.runtime,
        runtime_args: config.runtime_args,
        resources: resources(config.resources.unwrap_or_default()),
        add_capabilities: capabilities("add_capabilities", config.add_capabilities)?,
        drop_capabilities: capabilities("drop_capabilities", config.drop_capabilities)?,
        seccomp_unconfined: config.seccomp_unconfined,
        labels: config.labels.into_iter().collect(),
    })
}

fn stop_signal(word: String) -> Result<String> {
    if word.is_empty() {
        return Ok(Signal::TERM.to_string());
    }
    signal(&word, Signal::TERM)?;
    Ok(word)
}

/// A signal by name or number.
pub(crate) fn signal(word: &str, default: Signal) -> Result<Signal> {
    if word.is_empty() {
        return Ok(default);
    }
    word.parse()
        .map_err(|error: gantry_client::UnknownSignal| Error::invalid("signal", error.to_string()))
}

fn user(user: proto::User) -> User {
    let proto::User { uid, gid, additional_gids } = user;
    User { uid, gid, additional_gids }
}

fn resources(resources: proto::Resources) -> Resources {
    let proto::Resources { memory, pids, cpu_shares } = resources;
    Resources { memory, pids, cpu_shares }
}

fn absolute(field: &'static str, path: &str) -> Result<PathBuf> {
    if !Path::new(path).is_absolute() {
        return Err(Error::invalid(field, format!("{path:?} is no absolute path")));
    }
    Ok(PathBuf::from(path))
}

fn root(root: Option<proto::RootFilesystem>) -> Result<Root> {
    let root = root.unwrap_or_default();
    let source = match root.source {
        Some(Source::Directory(directory)) => {
            RootSource::Directory(absolute("root.directory", &directory)?)
        }
        Some(Source::Layers(layers)) if !layers.directories.is_empty() => {
            let layers = layers.directories.iter().map(|directory| layer(directory));
            RootSource::Layers(layers.collect::<Result<_>>()?)
        }
        _ => return Err(Error::invalid("root", "names no directory")),
    };
    Ok(Root { source, read_only: root.read_only })
}

/// The kernel separates options by commas and layers by colons.
fn layer(directory: &str) -> Result<PathBuf> {
    if directory.contains([':', ',', '\\']) {
        let message = format!("{directory:?} contains a colon, a comma or a backslash");
        return Err(Error::invalid("root.layers", message));
    }
    absolute("root.layers", directory)
}

fn bind_mount(mount: &proto::BindMount) -> Result<BindMount> {
    Ok(BindMount {
        source: absolute("mounts.source", &mount.source)?,
        destination: absolute("mounts.destination", &mount.destination)?,
        read_only: mount.read_only,
    })
}

fn optional_name(field: &'static str, name: String) -> Result<Option<String>> {
    if name.is_empty() {
        return Ok(None);
    }
    names::check(field, &name)?;
    Ok(Some(name))
}

fn capabilities(field: &'static str, names: Vec<String>) -> Result<Vec<String>> {
    match start::parse_capabilities(&names) {
        Ok(_) => Ok(names),
        Err(error) => Err(Error::invalid(field, error.to_string())),
    }
}

fn networking(networking: Option<proto::Networking>) -> Result<Networking> {
    let mode = networking.and_then(|networking| networking.mode);
    Ok(match mode.unwrap_or_else(|| Mode::Bridge(proto::BridgeMode::default())) {
        Mode::Bridge(mode) => Networking::Bridge(bridge(mode)?),
        Mode::Host(proto::HostMode {}) => Networking::Host,
        Mode::Container(mode) if mode.reference.is_empty() => {
            return Err(Error::invalid("networking.container", "names no container"));
        }
        Mode::Container(mode) => Networking::Container(mode.reference),
        Mode::None(proto::NoneMode {}) => Networking::None,
        Mode::Disabled(proto::DisabledMode {}) => Networking::Disabled,
    })
}

fn bridge(mode: proto::BridgeMode) -> Result<Bridge> {
    let mut networks = mode.networks;
    if networks.is_empty() {
        networks.push(networks::DEFAULT.to_owned());
    }
    for (index, name) in networks.iter().enumerate() {
        if networks[..index].contains(name) {
            return Err(Error::invalid("networks", format!("{name} is named twice")));
        }
    }
    mode.aliases.iter().try_for_each(|alias| names::check("aliases", alias))?;
    let ports = mode.ports.iter().map(port).collect::<Result<_>>()?;
    Ok(Bridge { networks, ports, aliases: mode.aliases })
}

fn port(port: &proto::PublishedPort) -> Result<Port> {
    let number = |number: u32| match u16::try_from(number) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::invalid("ports", format!("{number} is no port"))),
    };
    let host_ip = match port.host_ip.as_str() {
        "" => None,
        address => Some(address.parse().map_err(|_| {
            Error::invalid("ports.host_ip", format!("{address:?} is no IPv4 address"))
        })?),
    };
    Ok(Port {
        container: number(port.container_port)?,
        host: number(port.host_port)?,
        host_ip,
        protocol: match proto::Protocol::try_from(port.protocol) {
            Ok(proto::Protocol::Unspecified | proto::Protocol::Tcp) => Protocol::Tcp,
            Ok(proto::Protocol::Udp) => Protocol::Udp,
            Err(error) => return Err(Error::invalid("ports.protocol", error.to_string())),
        },
    })
}

fn restart_policy(policy: proto::RestartPolicy) -> Result<RestartPolicy> {
    use proto::RestartMode as Restart;
    let max_retries = (policy.max_retries > 0).then_some(policy.max_retries);
    Ok(match Restart::try_from(policy.mode) {
        Ok(Restart::OnFailure) => RestartPolicy::OnFailure { max_retries },
        Ok(_) if max_retries.is_some() => {
            let message = "goes with RESTART_MODE_ON_FAILURE only";
            return Err(Error::invalid("restart_policy.max_retries", message));
        }
        Ok(Restart::Unspecified | Restart::No) => RestartPolicy::No,
        Ok(Restart::Always) => RestartPolicy::Always,
        Ok(Restart::UnlessStopped) => RestartPolicy::UnlessStopped,
        Err(error) => return Err(Error::invalid("restart_policy.mode", error.to_string())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> proto::ContainerConfig {
        proto::ContainerConfig {
            args: vec!["sh".into()],
            root: Some(proto::RootFilesystem {
                source: Some(Source::Directory("/srv".into())),
                read_only: false,
            }),
            ..Default::default()
        }
    }

    fn refused(change: impl FnOnce(&mut proto::ContainerConfig)) -> &'static str {
        let mut changed = minimal();
        change(&mut changed);
        match config(Some(changed)) {
            Err(Error::Invalid { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_filled_in() {
        let config = config(Some(minimal())).unwrap();
        let Networking::Bridge(bridge) = &config.networking else { panic!("{config:?}") };
        assert_eq!(bridge.networks, ["bridge"]);
        assert_eq!(config.stop_signal(), Signal::TERM);
        assert_eq!((config.cwd.to_str(), config.restart), (Some("/"), RestartPolicy::No));
    }

    #[test]
    fn a_config_survives_the_round_trip() {
        let given = proto::ContainerConfig {
            networking: Some(proto::Networking {
                mode: Some(Mode::Bridge(proto::BridgeMode {
                    networks: vec!["web".into()],
                    ports: vec![proto::PublishedPort {
                        container_port: 80,
                        host_port: 8080,
                        host_ip: "127.0.0.1".into(),
                        protocol: proto::Protocol::Udp.into(),
                    }],
                    aliases: vec!["www".into()],
                })),
            }),
            restart_policy: Some(proto::RestartPolicy {
                mode: proto::RestartMode::OnFailure.into(),
                max_retries: 3,
            }),
            ..minimal()
        };
        let returned = proto::ContainerConfig::from(config(Some(given.clone())).unwrap());
        assert_eq!(
            (returned.networking, returned.restart_policy),
            (given.networking, given.restart_policy)
        );
        assert_eq!((returned.args, returned.root), (given.args, given.root));
    }

    #[test]
    fn nonsense_is_refused_by_field() {
        assert_eq!(refused(|c| c.args.clear()), "args");
        assert_eq!(refused(|c| c.env = vec!["A".into()]), "env");
        assert_eq!(refused(|c| c.cwd = "tmp".into()), "cwd");
        assert_eq!(refused(|c| c.root = None), "root");
        assert_eq!(refused(|c| c.hostname = "a b".into()), "hostname");
        assert_eq!(refused(|c| c.stop_signal = "NOSUCH".into()), "signal");
        assert_eq!(refused(|c| c.add_capabilities = vec!["FLY".into()]), "add_capabilities");
        assert_eq!(
            refused(|c| {
                c.auto_remove = true;
                c.restart_policy = Some(proto::RestartPolicy {
                    mode: proto::RestartMode::Always.into(),
                    max_retries: 0,
                });
            }),
            "auto_remove"
        );
        let bridge = |mode| Some(proto::Networking { mode: Some(Mode::Bridge(mode)) });
        let twice =
            proto::BridgeMode { networks: vec!["a".into(), "a".into()], ..Default::default() };
        assert_eq!(refused(|c| c.networking = bridge(twice)), "networks");
        let port = proto::PublishedPort { container_port: 80, ..Default::default() };
        let no_port = proto::BridgeMode { ports: vec![port], ..Default::default() };
        assert_eq!(refused(|c| c.networking = bridge(no_port)), "ports");
        let layers = proto::Layers { directories: vec!["/a:b".into()] };
        let source = Some(Source::Layers(layers));
        assert_eq!(
            refused(|c| c.root = Some(proto::RootFilesystem { source, read_only: false })),
            "root.layers"
        );
    }
}
