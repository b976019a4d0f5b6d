//! The configuration that `gantry run` writes: what docker would give a container, without network.

mod capabilities;
mod devices;
pub(crate) mod limits;
mod mounts;
mod seccomp;
mod security;

use std::path::PathBuf;

use gantry_client::{
    ConsoleSize,
    oci_spec::{OciSpecError, runtime::Spec},
    spec::{DefaultSpec, Network},
    types,
};

pub(crate) use self::{
    devices::DeviceOption, limits::LimitOptions, mounts::MountOptions, security::SecurityOptions,
};
use crate::failure::Failure;

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
    pub(crate) read_only: bool,
    pub(crate) mounts: MountOptions,
    pub(crate) devices: Vec<DeviceOption>,
    pub(crate) security: SecurityOptions,
    pub(crate) limits: LimitOptions,
    pub(crate) cgroup_path: String,
}

/// The configuration for these wishes.
pub(crate) fn build(wishes: Wishes) -> Result<Spec, Failure> {
    let (security, limits) = (wishes.security.clone(), wishes.limits.clone());
    let devices = wishes.devices.clone();
    let mounts = wishes.mounts.mounts()?;
    let mut spec = plain(wishes).build().map_err(|error| unusable(&error))?;
    // Before the wanted mounts, whose options stay as they are.
    security.apply(&mut spec)?;
    spec.mounts_mut().get_or_insert_default().extend(mounts);
    devices::add(&devices, &mut spec)?;
    limits.apply(&mut spec)?;
    Ok(spec)
}

fn plain(wishes: Wishes) -> DefaultSpec {
    let mut spec = DefaultSpec::new(wishes.rootfs, wishes.args)
        .read_only_root(wishes.read_only)
        .env(wishes.env)
        .cwd(wishes.cwd)
        .user(wishes.user)
        .hostname(wishes.hostname)
        .terminal(wishes.terminal)
        .cgroups_path(wishes.cgroup_path);
    if wishes.host_network {
        spec = spec.network(Network::Host);
    }
    if let Some(size) = wishes.console_size {
        spec = spec.console_size(size);
    }
    if let Some(limit) = wishes.limits.memory {
        spec = spec.memory(limit);
    }
    if let Some(limit) = wishes.limits.pids_limit {
        spec = spec.pids(limit);
    }
    spec
}

fn unusable(error: &OciSpecError) -> Failure {
    Failure::new(format!("write the configuration: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_met() {
        let wishes = Wishes {
            args: vec!["sh".into()],
            cwd: "/".into(),
            rootfs: "/srv/root".into(),
            hostname: "web".into(),
            cgroup_path: "/gantry/web".into(),
            host_network: true,
            limits: LimitOptions {
                memory: Some(1 << 20),
                cpus: Some(50_000),
                pids_limit: Some(7),
                ..LimitOptions::default()
            },
            terminal: true,
            console_size: Some(ConsoleSize { width: 80, height: 24 }),
            env: vec!["TERM=vt100".into(), "A=1".into()],
            user: types::User { uid: 5, ..types::User::default() },
            devices: vec!["/dev/zero:/dev/nought:r".parse().unwrap()],
            ..Wishes::default()
        };
        let json = serde_json::to_value(build(wishes).unwrap()).unwrap();
        assert_eq!(json["root"]["path"], "/srv/root");
        assert_eq!(json["hostname"], "web");
        assert_eq!(json["linux"]["cgroupsPath"], "/gantry/web");
        assert_eq!(json["linux"]["namespaces"].as_array().unwrap().len(), 4);
        assert_eq!(json["linux"]["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(json["linux"]["resources"]["cpu"]["quota"], 50_000);
        assert_eq!(json["linux"]["resources"]["pids"]["limit"], 7);
        assert_eq!(json["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        let device = &json["linux"]["devices"][0];
        assert_eq!((&device["path"], &device["minor"]), (&"/dev/nought".into(), &5.into()));
        assert_eq!(json["linux"]["resources"]["devices"][1]["access"], "r");
        let process = &json["process"];
        assert_eq!(process["args"], serde_json::json!(["sh"]));
        assert_eq!((&process["user"]["uid"], &process["terminal"]), (&5.into(), &true.into()));
        assert_eq!(process["consoleSize"]["width"], 80);
        let env = process["env"].as_array().unwrap();
        assert_eq!(env[1..], ["HOSTNAME=web", "TERM=vt100", "A=1"]);
    }

    fn of(security: SecurityOptions) -> serde_json::Value {
        let mount = "type=sysfs,src=sysfs,dst=/wanted,ro".parse().unwrap();
        let mounts = MountOptions { mount: vec![mount], ..MountOptions::default() };
        let wishes = Wishes { cwd: "/".into(), security, mounts, ..Wishes::default() };
        serde_json::to_value(build(wishes).unwrap()).unwrap()
    }

    #[test]
    fn a_privileged_container_is_confined_by_namespaces_only() {
        let json = of(SecurityOptions { privileged: true, ..SecurityOptions::default() });
        let linux = &json["linux"];
        for absent in ["seccomp", "maskedPaths", "readonlyPaths"] {
            assert!(linux.get(absent).is_none(), "{absent}");
        }
        assert_eq!(
            linux["resources"]["devices"],
            serde_json::json!([{ "allow": true, "access": "rwm" }])
        );
        assert_eq!(json["process"]["noNewPrivileges"], false);
        let bounding = json["process"]["capabilities"]["bounding"].as_array().unwrap();
        assert!(bounding.contains(&"CAP_SYS_ADMIN".into()));
        let mounts = json["mounts"].as_array().unwrap();
        let is_read_only = |mount: &&serde_json::Value| {
            mount["options"].as_array().unwrap().contains(&"ro".into())
        };
        let read_only: Vec<_> = mounts.iter().filter(is_read_only).collect();
        assert!(matches!(read_only[..], [only] if only["destination"] == "/wanted"), "{mounts:?}");
        assert_eq!(linux["namespaces"].as_array().unwrap().len(), 5);
    }

    #[test]
    fn options_confine_less_or_more() {
        let json = of(SecurityOptions {
            cap_drop: vec!["ALL".parse().unwrap()],
            cap_add: vec!["SYS_TIME".parse().unwrap()],
            security_opt: vec!["no-new-privileges=false".parse().unwrap()],
            ..SecurityOptions::default()
        });
        assert_eq!(json["process"]["noNewPrivileges"], false);
        let sets = &json["process"]["capabilities"];
        assert_eq!(sets["bounding"], serde_json::json!(["CAP_SYS_TIME"]));
        assert!(sets.get("ambient").is_none() && sets.get("inheritable").is_none());
        let rules = json["linux"]["seccomp"]["syscalls"].as_array().unwrap();
        assert!(rules[0]["names"].as_array().unwrap().contains(&"stime".into()));
        let open = of(SecurityOptions {
            security_opt: vec!["seccomp=unconfined".parse().unwrap()],
            ..SecurityOptions::default()
        });
        assert!(open["linux"].get("seccomp").is_none());
        assert!(open["linux"]["maskedPaths"].is_array());
    }
}
