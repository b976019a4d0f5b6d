//! Describes containers and networks in the messages of the service.

use std::path::PathBuf;

use crate::{
    Daemon, Network,
    model::{
        BindMount, Config, Endpoint, Networking, Port, Protocol, Record, Resources, RestartPolicy,
        Root, RootSource, Status, User,
    },
    proto::{self, networking::Mode, root_filesystem::Source},
};

impl From<Network> for proto::Network {
    fn from(network: Network) -> proto::Network {
        proto::Network {
            interface: network.interface(),
            subnet: network.subnet.to_string(),
            gateway: network.subnet.gateway().to_string(),
            name: network.name,
        }
    }
}

/// A container as the service describes it.
pub(crate) fn container(daemon: &Daemon, record: Record) -> proto::Container {
    let state = record.state;
    let endpoint = |endpoint: Endpoint| proto::Endpoint {
        network: endpoint.network,
        interface: endpoint.interface,
        address: endpoint.address.to_string(),
    };
    proto::Container {
        output_path: daemon.output_path(&record.id).display().to_string(),
        id: record.id,
        name: record.name,
        created: Some(record.created.into()),
        config: Some(record.config.into()),
        status: status(state.status).into(),
        pid: state.pid,
        exit_code: state.exit_code,
        error: state.error,
        started: state.started.map(Into::into),
        finished: state.finished.map(Into::into),
        restart_count: state.restart_count,
        endpoints: state.endpoints.into_iter().map(endpoint).collect(),
    }
}

fn status(status: Status) -> proto::ContainerStatus {
    match status {
        Status::Created => proto::ContainerStatus::Created,
        Status::Running => proto::ContainerStatus::Running,
        Status::Restarting => proto::ContainerStatus::Restarting,
        Status::Exited => proto::ContainerStatus::Exited,
        Status::Removing => proto::ContainerStatus::Removing,
        Status::Dead => proto::ContainerStatus::Dead,
    }
}

impl From<Config> for proto::ContainerConfig {
    fn from(config: Config) -> proto::ContainerConfig {
        let User { uid, gid, additional_gids } = config.user;
        let Resources { memory, pids, cpu_shares } = config.resources;
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mount = |mount: BindMount| proto::BindMount {
            source: text(mount.source),
            destination: text(mount.destination),
            read_only: mount.read_only,
        };
        proto::ContainerConfig {
            args: config.args,
            env: config.env,
            cwd: text(config.cwd),
            user: Some(proto::User { uid, gid, additional_gids }),
            terminal: config.terminal,
            root: Some(config.root.into()),
            mounts: config.mounts.into_iter().map(mount).collect(),
            hostname: config.hostname.unwrap_or_default(),
            domainname: config.domainname.unwrap_or_default(),
            networking: Some(config.networking.into()),
            restart_policy: Some(config.restart.into()),
            auto_remove: config.auto_remove,
            stop_signal: config.stop_signal,
            stop_timeout_seconds: u32::try_from(config.stop_timeout.as_secs()).ok(),
            runtime: config.runtime,
            runtime_args: config.runtime_args,
            resources: Some(proto::Resources { memory, pids, cpu_shares }),
            add_capabilities: config.add_capabilities,
            drop_capabilities: config.drop_capabilities,
            seccomp_unconfined: config.seccomp_unconfined,
            labels: config.labels.into_iter().collect(),
        }
    }
}

impl From<Root> for proto::RootFilesystem {
    fn from(root: Root) -> proto::RootFilesystem {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let source = match root.source {
            RootSource::Directory(directory) => Source::Directory(text(directory)),
            RootSource::Layers(layers) => Source::Layers(proto::Layers {
                directories: layers.into_iter().map(text).collect(),
            }),
        };
        proto::RootFilesystem { source: Some(source), read_only: root.read_only }
    }
}

impl From<Networking> for proto::Networking {
    fn from(networking: Networking) -> proto::Networking {
        let mode = match networking {
            Networking::Bridge(bridge) => Mode::Bridge(proto::BridgeMode {
                networks: bridge.networks,
                ports: bridge.ports.iter().map(published_port).collect(),
                aliases: bridge.aliases,
            }),
            Networking::Host => Mode::Host(proto::HostMode {}),
            Networking::Container(reference) => Mode::Container(proto::ContainerMode { reference }),
            Networking::None => Mode::None(proto::NoneMode {}),
            Networking::Disabled => Mode::Disabled(proto::DisabledMode {}),
        };
        proto::Networking { mode: Some(mode) }
    }
}

fn published_port(port: &Port) -> proto::PublishedPort {
    let protocol = match port.protocol {
        Protocol::Tcp => proto::Protocol::Tcp,
        Protocol::Udp => proto::Protocol::Udp,
    };
    proto::PublishedPort {
        container_port: port.container.into(),
        host_port: port.host.into(),
        host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
        protocol: protocol.into(),
    }
}

impl From<RestartPolicy> for proto::RestartPolicy {
    fn from(policy: RestartPolicy) -> proto::RestartPolicy {
        use proto::RestartMode as Restart;
        let (mode, max_retries) = match policy {
            RestartPolicy::No => (Restart::No, 0),
            RestartPolicy::Always => (Restart::Always, 0),
            RestartPolicy::OnFailure { max_retries } => {
                (Restart::OnFailure, max_retries.unwrap_or_default())
            }
            RestartPolicy::UnlessStopped => (Restart::UnlessStopped, 0),
        };
        proto::RestartPolicy { mode: mode.into(), max_retries }
    }
}
