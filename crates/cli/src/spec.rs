//! The configuration that `gantry run` writes: what docker would give a container, without network.

use std::path::{Path, PathBuf};

use gantry_client::{
    ConsoleSize,
    oci_spec::{
        OciSpecError,
        runtime::{
            BoxBuilder, Capability, LinuxBuilder, LinuxCapabilities, LinuxCapabilitiesBuilder,
            LinuxDeviceCgroupBuilder, LinuxMemoryBuilder, LinuxNamespace, LinuxNamespaceBuilder,
            LinuxNamespaceType, LinuxResources, LinuxResourcesBuilder, Mount, MountBuilder,
            Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
        },
    },
    types,
};

pub(crate) const DEFAULT_PATH: &str =
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's default list. They are not inheritable (CVE-2022-24769).
const CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Files of the kernel that say too much, or too much about other containers.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
];

/// Settings of the host that a container's root must not change.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Destination, type, options (comma-separated).
const MOUNTS: [(&str, &str, &str); 7] = [
    ("/proc", "proc", "nosuid,noexec,nodev"),
    ("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
    ("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
];

/// What the user asked for.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: String,
    pub(crate) user: types::User,
    /// The terminal, and its size if it is known.
    pub(crate) terminal: bool,
    pub(crate) console_size: Option<ConsoleSize>,
    pub(crate) rootfs: PathBuf,
    pub(crate) hostname: String,
    pub(crate) host_network: bool,
    pub(crate) memory: Option<u64>,
    pub(crate) cgroup_path: String,
}

/// The configuration for these wishes.
pub(crate) fn build(wishes: Wishes) -> Result<Spec, OciSpecError> {
    let resources = resources(wishes.memory)?;
    let owned = |paths: &[&str]| paths.iter().map(ToString::to_string).collect::<Vec<_>>();
    let linux = LinuxBuilder::default()
        .namespaces(namespaces(wishes.host_network)?)
        .cgroups_path(&wishes.cgroup_path)
        .resources(resources)
        .masked_paths(owned(&MASKED))
        .readonly_paths(owned(&READ_ONLY))
        .build()?;
    let root = RootBuilder::default().path(&wishes.rootfs).readonly(false).build()?;
    let mounts = MOUNTS.into_iter().map(mount).collect::<Result<Vec<_>, _>>()?;
    SpecBuilder::default()
        .root(root)
        .mounts(mounts)
        .hostname(&wishes.hostname)
        .linux(linux)
        .process(process(wishes)?)
        .build()
}

fn process(wishes: Wishes) -> Result<Process, OciSpecError> {
    let types::User { uid, gid, additional_gids } = wishes.user;
    let user = UserBuilder::default().uid(uid).gid(gid).additional_gids(additional_gids).build()?;
    let mut env = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", wishes.hostname)];
    if wishes.terminal {
        env.push("TERM=xterm".to_owned());
    }
    env.extend(wishes.env);
    let mut process = ProcessBuilder::default()
        .terminal(wishes.terminal)
        .user(user)
        .args(wishes.args)
        .env(last_of_each_name(env))
        .cwd(wishes.cwd)
        .capabilities(capabilities()?)
        .no_new_privileges(true)
        .build()?;
    // The builder's default limits are lower than what the server itself has.
    process.set_rlimits(None);
    if let Some(ConsoleSize { width, height }) = wishes.console_size {
        let size = BoxBuilder::default().width(width).height(height).build()?;
        process.set_console_size(Some(size));
    }
    Ok(process)
}

/// A later value of a variable replaces an earlier one.
pub(crate) fn last_of_each_name(env: Vec<String>) -> Vec<String> {
    let mut result: Vec<String> = Vec::with_capacity(env.len());
    for variable in env {
        let name = |v: &str| v.split('=').next().map(str::to_owned);
        result.retain(|old| name(old) != name(&variable));
        result.push(variable);
    }
    result
}

fn capabilities() -> Result<LinuxCapabilities, OciSpecError> {
    let mut sets = LinuxCapabilitiesBuilder::default()
        .bounding(CAPABILITIES)
        .effective(CAPABILITIES)
        .permitted(CAPABILITIES)
        .build()?;
    sets.set_inheritable(None).set_ambient(None);
    Ok(sets)
}

fn namespaces(host_network: bool) -> Result<Vec<LinuxNamespace>, OciSpecError> {
    use LinuxNamespaceType::{Ipc, Mount, Network, Pid, Uts};
    [Pid, Ipc, Uts, Mount, Network]
        .into_iter()
        .filter(|kind| !(host_network && *kind == Network))
        .map(|kind| LinuxNamespaceBuilder::default().typ(kind).build())
        .collect()
}

/// No devices but those that every runtime adds (null, zero, full, random, urandom, tty, pts).
fn resources(memory: Option<u64>) -> Result<LinuxResources, OciSpecError> {
    let no_device = LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build()?;
    let resources = LinuxResourcesBuilder::default().devices([no_device]);
    let Some(limit) = memory else { return resources.build() };
    let limit = i64::try_from(limit)
        .map_err(|_| OciSpecError::Other("the memory limit is too large".to_owned()))?;
    resources.memory(LinuxMemoryBuilder::default().limit(limit).build()?).build()
}

fn mount((destination, kind, options): (&str, &str, &str)) -> Result<Mount, OciSpecError> {
    MountBuilder::default()
        .destination(Path::new(destination))
        .typ(kind)
        .source(Path::new(kind))
        .options(options.split(',').map(str::to_owned).collect::<Vec<_>>())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes() -> Wishes {
        Wishes {
            args: vec!["sh".into()],
            cwd: "/".into(),
            rootfs: "/srv/root".into(),
            hostname: "web".into(),
            cgroup_path: "/gantry/web".into(),
            ..Wishes::default()
        }
    }

    #[test]
    fn is_private_and_unprivileged() {
        let spec = build(wishes()).unwrap();
        let json = serde_json::to_value(&spec).unwrap();
        let namespaces = json["linux"]["namespaces"].as_array().unwrap();
        assert_eq!(namespaces.len(), 5);
        assert_eq!(json["linux"]["cgroupsPath"], "/gantry/web");
        assert_eq!(json["process"]["noNewPrivileges"], true);
        assert_eq!(json["root"]["path"], "/srv/root");
        let sets = &json["process"]["capabilities"];
        for set in ["bounding", "effective", "permitted"] {
            assert_eq!(sets[set].as_array().unwrap().len(), CAPABILITIES.len(), "{set}");
        }
        for absent in ["inheritable", "ambient"] {
            assert!(sets.get(absent).is_none(), "{absent}");
        }
        for absent in ["rlimits", "oomScoreAdj", "consoleSize"] {
            assert!(json["process"].get(absent).is_none(), "{absent}");
        }
    }

    #[test]
    fn wishes_are_met() {
        let spec = build(Wishes {
            host_network: true,
            memory: Some(1 << 20),
            terminal: true,
            console_size: Some(ConsoleSize { width: 80, height: 24 }),
            env: vec!["TERM=vt100".into(), "A=1".into()],
            ..wishes()
        });
        let json = serde_json::to_value(spec.unwrap()).unwrap();
        assert_eq!(json["linux"]["namespaces"].as_array().unwrap().len(), 4);
        assert_eq!(json["linux"]["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(json["process"]["consoleSize"]["width"], 80);
        let env = &json["process"]["env"];
        assert_eq!(env, &serde_json::json!([DEFAULT_PATH, "HOSTNAME=web", "TERM=vt100", "A=1"]));
    }
}
