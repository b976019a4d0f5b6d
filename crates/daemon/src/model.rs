//! What the daemon stores about a container: its configuration, which is fixed, and its state.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use gantry_client::Signal;
use serde::{Deserialize, Serialize};

/// What to run, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// Who runs it.
    pub user: User,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// The root filesystem.
    pub root: Root,
    /// Further mounts.
    pub mounts: Vec<BindMount>,
    /// Its own choice of a host name.
    pub hostname: Option<String>,
    /// NIS domain name.
    pub domainname: Option<String>,
    /// How it is connected.
    pub networking: Networking,
    /// What to do when it ends.
    pub restart: RestartPolicy,
    /// Whether it is removed at its end.
    pub auto_remove: bool,
    /// Name or number of the signal that asks it to end.
    pub stop_signal: String,
    /// How long it may take to do so.
    pub stop_timeout: Duration,
    /// OCI runtime; empty for gantryd's default.
    pub runtime: String,
    /// Arguments before the runtime's command.
    pub runtime_args: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Capabilities beside the default ones.
    pub add_capabilities: Vec<String>,
    /// Default capabilities that it has not.
    pub drop_capabilities: Vec<String>,
    /// Whether it runs without the seccomp filter.
    pub seccomp_unconfined: bool,
    /// Free text.
    pub labels: BTreeMap<String, String>,
}

impl Config {
    /// The signal that asks it to end.
    pub(crate) fn stop_signal(&self) -> Signal {
        // Checked when the container was created.
        self.stop_signal.parse().unwrap_or(Signal::TERM)
    }
}

/// A user of the container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Further group ids.
    pub additional_gids: Vec<u32>,
}

/// The root filesystem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// Where it comes from.
    pub source: RootSource,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// Where a root filesystem comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum RootSource {
    /// A directory, used as it is.
    Directory(PathBuf),
    /// Directories under one of the container's own, the uppermost first.
    Layers(Vec<PathBuf>),
}

/// A file or directory of the host that the container sees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindMount {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// Whether the container can only read it.
    pub read_only: bool,
}

/// How a container is connected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Networking {
    /// To networks, through interfaces of its own.
    Bridge(Bridge),
    /// It has the host's network.
    Host,
    /// It has the network of the container that this refers to.
    Container(String),
    /// It has a loopback interface.
    None,
    /// As `None`, and it gets no files about its network.
    Disabled,
}

/// Connections to networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bridge {
    /// Their names; the first one's interface is eth0.
    pub networks: Vec<String>,
    /// Ports of the host that lead to the container.
    pub ports: Vec<Port>,
    /// Further names that others find it by.
    pub aliases: Vec<String>,
}

/// A port of the host that leads to one of the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Port in the container.
    pub container: u16,
    /// Port of the host.
    pub host: u16,
    /// Address of the host; none for all.
    pub host_ip: Option<Ipv4Addr>,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl Port {
    /// Whether only one of the two can be published.
    pub(crate) fn conflicts_with(&self, other: &Port) -> bool {
        let same_address = match (self.host_ip, other.host_ip) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        self.host == other.host && self.protocol == other.protocol && same_address
    }
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// When a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Never.
    No,
    /// When it ends, unless it was stopped; and when the daemon starts.
    Always,
    /// When its exit code is not 0.
    OnFailure {
        /// How often; none for no limit.
        max_retries: Option<u32>,
    },
    /// When it ends and when the daemon starts, unless it was stopped.
    UnlessStopped,
}

/// Limits; 0 for none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub memory: u64,
    /// Tasks.
    pub pids: u32,
    /// Relative weight.
    pub cpu_shares: u32,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It was never started, or could not be.
    Created,
    /// Its program runs.
    Running,
    /// It has ended and will be started again.
    Restarting,
    /// It has ended.
    Exited,
    /// It is being removed.
    Removing,
    /// Its removal failed.
    Dead,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
            Status::Removing => "being removed",
            Status::Dead => "dead",
        }
    }
}

/// What changes about a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What it does.
    pub status: Status,
    /// Pid of its first process; 0 unless it runs.
    pub pid: u32,
    /// Of its last run, or of its failed start.
    pub exit_code: u32,
    /// Why its last start failed.
    pub error: String,
    /// When it was last started.
    pub started: Option<SystemTime>,
    /// When it last ended.
    pub finished: Option<SystemTime>,
    /// How often its policy has started it since it was started by a call.
    pub restart_count: u32,
    /// How long the last restart waited.
    pub restart_delay: Duration,
    /// Whether its end was asked for.
    pub stopped: bool,
    /// What is reserved for it on its networks.
    pub endpoints: Vec<Endpoint>,
    /// What it was called when it was last started.
    pub identity: Identity,
    /// Directory of the hosts, hostname and resolv.conf that it was last started with.
    pub files: Option<PathBuf>,
}

/// How a container calls itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Host name.
    pub hostname: String,
    /// NIS domain name.
    pub domainname: Option<String>,
}

/// A connection to a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name of the network.
    pub network: String,
    /// The container's interface.
    pub interface: String,
    /// The container's address.
    pub address: Ipv4Addr,
}

/// All that is stored about a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was created.
    pub created: SystemTime,
    /// What to run, and how.
    pub config: Config,
    /// What it does.
    pub state: State,
}

impl Record {
    pub(crate) fn new(id: String, name: String, config: Config) -> Record {
        let state = State {
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            started: None,
            finished: None,
            restart_count: 0,
            restart_delay: Duration::ZERO,
            stopped: false,
            endpoints: Vec::new(),
            identity: Identity::default(),
            files: None,
        };
        Record { id, name, created: SystemTime::now(), config, state }
    }

    /// The beginning of its id, for people.
    pub(crate) fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    pub(crate) fn wrong_state(&self) -> crate::Error {
        crate::Error::WrongState { id: self.id.clone(), state: self.state.status.name() }
    }
}
