//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::subnet::Subnet;

/// A reference daemon: keeps containers and starts them through gantryd.
#[derive(Debug, Clone, Parser)]
#[command(name = "gantry-daemon", version)]
pub struct Options {
    /// Unix socket to serve on.
    #[arg(long, value_name = "PATH", default_value = "/run/gantry-daemon/daemon.sock")]
    pub listen: PathBuf,

    /// Unix socket of gantryd.
    #[arg(long, value_name = "PATH", default_value = "/run/gantry/gantryd.sock")]
    pub server: PathBuf,

    /// Directory of all that lasts: containers and networks.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/gantry-daemon")]
    pub root: PathBuf,

    /// Directory of what a restart of the host may remove: network namespaces.
    #[arg(long, value_name = "DIR", default_value = "/run/gantry-daemon")]
    pub run_dir: PathBuf,

    /// The program that sets networks up.
    #[arg(long, value_name = "PATH", default_value = "/usr/lib/podman/netavark")]
    pub netavark: PathBuf,

    /// Where networks without a subnet of their own get theirs from, in parts of 256 addresses.
    #[arg(long, value_name = "SUBNET", default_value = "10.90.0.0/16")]
    pub subnets: Subnet,

    /// Cgroup that the containers' cgroups are made in.
    #[arg(long, value_name = "PATH", default_value = "/gantry-daemon")]
    pub cgroup_parent: PathBuf,

    /// What to log: a level, or directives as of tracing-subscriber's EnvFilter.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub log_level: String,
}
