//! A configuration for a container that asks for nothing special: what docker would give it, and a
//! little less where docker is generous.
//!
//! | part of config.json | value | where it comes from |
//! |---|---|---|
//! | `linux.namespaces` | pid, ipc, uts, mount and network of its own | docker's defaults (moby, `oci/defaults.go`); [`Network`] decides the last |
//! | `mounts` | /proc, /sys, /dev, /dev/pts, /dev/shm (64 MiB), /dev/mqueue, /sys/fs/cgroup | the OCI runtime specification's "Default Filesystems", with docker's options; sysfs and cgroups read-only |
//! | `linux.maskedPaths`, `linux.readonlyPaths` | below /proc and /sys | docker's defaults |
//! | `process.capabilities` | docker's 14 | moby, `oci/caps/defaults.go`; in no inheritable or ambient set (CVE-2022-24769) |
//! | `process.noNewPrivileges` | true | stricter than docker, which leaves setuid programs their effect |
//! | `linux.resources.devices` | none | the runtime adds the specification's "Default Devices" (null, zero, full, random, urandom, tty, console, ptmx); docker also lets mknod make any other |
//! | `process.env` | PATH, HOSTNAME, with a terminal TERM=xterm | docker's defaults; the caller's variables replace them |
//! | `process.user`, `process.cwd` | root, `/` | docker's, for an image that says nothing |
//! | `process.rlimits`, `process.oomScoreAdj` | none | those the server was started with, and 0 |
//! | `root.readonly` | false | docker's |
//! | `linux.seccomp` | none | [`seccomp_profile`] is one to set; the runtime must be built with seccomp |
//! | `linux.cgroupsPath` | none: the runtime chooses | better set: gantryd then knows it beforehand |
//! | user namespace, cgroup namespace, hooks, apparmor, selinux | none | change the [`Spec`] that comes out |

mod defaults;
mod seccomp;

use std::{collections::HashMap, path::PathBuf};

use gantry_api::types;
use oci_spec::{
    OciSpecError,
    runtime::{
        BoxBuilder, Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder,
        LinuxCpuBuilder, LinuxDeviceCgroupBuilder, LinuxMemoryBuilder, LinuxNamespace,
        LinuxNamespaceBuilder, LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
        LinuxResourcesBuilder, LinuxSeccomp, Mount, MountBuilder, Process, ProcessBuilder,
        RootBuilder, Spec, SpecBuilder, UserBuilder,
    },
};

use crate::{environment, process::ConsoleSize};

pub use seccomp::{seccomp_profile, seccomp_profile_for};

type Result<T> = std::result::Result<T, OciSpecError>;

/// Whose network a container has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Network {
    /// A namespace of its own, which has a loopback device only.
    #[default]
    Own,
    /// The namespace that this file is a handle of, such as `/run/netns/web`.
    At(PathBuf),
    /// The host's.
    Host,
}

/// A specification with the defaults of this module, to be changed where something special is
/// wanted.
#[derive(Debug, Clone, Default)]
#[must_use = "it becomes a specification with `build`"]
pub struct DefaultSpec {
    root: PathBuf,
    read_only_root: bool,
    args: Vec<String>,
    env: Vec<String>,
    cwd: Option<PathBuf>,
    user: types::User,
    hostname: Option<String>,
    terminal: bool,
    console_size: Option<ConsoleSize>,
    network: Network,
    added: Vec<Capability>,
    dropped: Vec<Capability>,
    mounts: Vec<Mount>,
    sysctl: HashMap<String, String>,
    seccomp: Option<LinuxSeccomp>,
    cgroups_path: Option<PathBuf>,
    memory: Option<u64>,
    pids: Option<u32>,
    cpu_shares: Option<u64>,
}

impl DefaultSpec {
    /// Of a container that has this directory as its root and runs this program with its arguments.
    pub fn new(root: impl Into<PathBuf>, args: impl IntoIterator<Item = String>) -> Self {
        DefaultSpec { root: root.into(), args: args.into_iter().collect(), ..Self::default() }
    }

    /// Nothing below the root can be written to; mounts can.
    pub fn read_only_root(mut self, read_only: bool) -> Self {
        self.read_only_root = read_only;
        self
    }

    /// Adds to the environment, `NAME=value`; the last of two values of a name counts.
    pub fn env(mut self, env: impl IntoIterator<Item = String>) -> Self {
        self.env.extend(env);
        self
    }

    /// Where the program starts.
    pub fn cwd(mut self, cwd: impl Into<PathBuf>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Who the program runs as.
    pub fn user(mut self, user: types::User) -> Self {
        self.user = user;
        self
    }

    /// The host name, and the variable HOSTNAME; without it, the host's name stays.
    pub fn hostname(mut self, name: impl Into<String>) -> Self {
        self.hostname = Some(name.into());
        self
    }

    /// Gives the program a terminal.
    pub fn terminal(mut self, terminal: bool) -> Self {
        self.terminal = terminal;
        self
    }

    /// The terminal's size from its first byte on.
    pub fn console_size(mut self, size: ConsoleSize) -> Self {
        self.console_size = Some(size);
        self
    }

    /// Whose network it has.
    pub fn network(mut self, network: Network) -> Self {
        self.network = network;
        self
    }

    /// Capabilities beside the default ones.
    pub fn add_capabilities(mut self, added: impl IntoIterator<Item = Capability>) -> Self {
        self.added.extend(added);
        self
    }

    /// Default capabilities that it does not get.
    pub fn drop_capabilities(mut self, dropped: impl IntoIterator<Item = Capability>) -> Self {
        self.dropped.extend(dropped);
        self
    }

    /// Mounts that come after the default ones.
    pub fn mounts(mut self, mounts: impl IntoIterator<Item = Mount>) -> Self {
        self.mounts.extend(mounts);
        self
    }

    /// Settings of the container's own namespaces below /proc/sys, with dots: `kernel.domainname`.
    pub fn sysctl(mut self, settings: impl IntoIterator<Item = (String, String)>) -> Self {
        self.sysctl.extend(settings);
        self
    }

    /// Filters its system calls.
    pub fn seccomp(mut self, profile: LinuxSeccomp) -> Self {
        self.seccomp = Some(profile);
        self
    }

    /// Its cgroup: a path below that of every controller, or what the runtime's cgroup manager takes.
    pub fn cgroups_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.cgroups_path = Some(path.into());
        self
    }

    /// Most memory, in bytes.
    pub fn memory(mut self, limit: u64) -> Self {
        self.memory = Some(limit);
        self
    }

    /// Most processes and threads.
    pub fn pids(mut self, limit: u32) -> Self {
        self.pids = Some(limit);
        self
    }

    /// Its weight against others where processors are short; 1024 is a container's usual one.
    pub fn cpu_shares(mut self, shares: u64) -> Self {
        self.cpu_shares = Some(shares);
        self
    }

    /// The specification.
    ///
    /// # Errors
    /// The memory limit is larger than the specification's type, 2^63-1.
    pub fn build(self) -> Result<Spec> {
        let mut linux = LinuxBuilder::default()
            .namespaces(self.namespaces()?)
            .resources(self.resources()?)
            .masked_paths(defaults::MASKED.map(str::to_owned))
            .readonly_paths(defaults::READ_ONLY.map(str::to_owned))
            .build()?;
        linux.set_cgroups_path(self.cgroups_path.clone()).set_seccomp(self.seccomp.clone());
        if !self.sysctl.is_empty() {
            linux.set_sysctl(Some(self.sysctl.clone()));
        }
        let root = RootBuilder::default().path(&self.root).readonly(self.read_only_root).build()?;
        let defaults = defaults::MOUNTS.into_iter().map(mount);
        let mounts: Vec<_> = defaults.collect::<Result<_>>()?;
        let mut spec = SpecBuilder::default()
            .root(root)
            .mounts(mounts.into_iter().chain(self.mounts.clone()).collect::<Vec<_>>())
            .process(self.process()?)
            .linux(linux)
            .build()?;
        spec.set_hostname(self.hostname);
        Ok(spec)
    }

    fn process(&self) -> Result<Process> {
        let user = UserBuilder::default()
            .uid(self.user.uid)
            .gid(self.user.gid)
            .additional_gids(self.user.additional_gids.clone())
            .build()?;
        let mut process = ProcessBuilder::default()
            .terminal(self.terminal)
            .user(user)
            .args(self.args.clone())
            .env(self.environment())
            .cwd(self.cwd.clone().unwrap_or_else(|| PathBuf::from("/")))
            .capabilities(self.capabilities()?)
            .no_new_privileges(true)
            .build()?;
        // The builder's default limits are lower than what the server itself has.
        process.set_rlimits(None);
        if let Some(ConsoleSize { width, height }) = self.console_size {
            let size = BoxBuilder::default().width(width).height(height).build()?;
            process.set_console_size(Some(size));
        }
        Ok(process)
    }

    fn environment(&self) -> Vec<String> {
        let hostname = self.hostname.iter().map(|name| format!("HOSTNAME={name}"));
        let term = self.terminal.then(|| "TERM=xterm".to_owned());
        let mut env = vec![defaults::PATH.to_owned()];
        for variable in hostname.chain(term).chain(self.env.iter().cloned()) {
            environment::set(&mut env, variable);
        }
        env
    }

    fn capabilities(&self) -> Result<LinuxCapabilities> {
        let kept = defaults::CAPABILITIES.into_iter().filter(|c| !self.dropped.contains(c));
        let names: Vec<_> = kept.chain(self.added.iter().copied()).collect();
        let mut sets = LinuxCapabilitiesBuilder::default()
            .bounding(names.iter().copied().collect::<std::collections::HashSet<_>>())
            .effective(names.iter().copied().collect::<std::collections::HashSet<_>>())
            .permitted(names.into_iter().collect::<std::collections::HashSet<_>>())
            .build()?;
        sets.set_inheritable(None).set_ambient(None);
        Ok(sets)
    }

    fn namespaces(&self) -> Result<Vec<LinuxNamespace>> {
        use LinuxNamespaceType::{Ipc, Mount, Network as Net, Pid, Uts};
        let own = |kind| LinuxNamespaceBuilder::default().typ(kind);
        let mut builders = vec![own(Pid), own(Ipc), own(Uts), own(Mount)];
        match &self.network {
            Network::Own => builders.push(own(Net)),
            Network::At(path) => builders.push(own(Net).path(path)),
            Network::Host => {}
        }
        builders.into_iter().map(LinuxNamespaceBuilder::build).collect()
    }

    fn resources(&self) -> Result<LinuxResources> {
        let no_device = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
        let mut resources = LinuxResourcesBuilder::default().devices([no_device]);
        if let Some(limit) = self.memory {
            let limit = i64::try_from(limit)
                .map_err(|_| OciSpecError::Other("the memory limit is too large".to_owned()))?;
            resources = resources.memory(LinuxMemoryBuilder::default().limit(limit).build()?);
        }
        if let Some(limit) = self.pids {
            resources =
                resources.pids(LinuxPidsBuilder::default().limit(i64::from(limit)).build()?);
        }
        if let Some(shares) = self.cpu_shares {
            resources = resources.cpu(LinuxCpuBuilder::default().shares(shares).build()?);
        }
        resources.build()
    }
}

fn mount((destination, kind, options): (&str, &str, &str)) -> Result<Mount> {
    MountBuilder::default()
        .destination(destination)
        .typ(kind)
        .source(kind)
        .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
        .build()
}

#[cfg(test)]
mod tests;
