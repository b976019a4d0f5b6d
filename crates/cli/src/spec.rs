//! The configuration that `gantry run` writes: what docker would give a container, without network.

use std::path::PathBuf;

use gantry_client::{
    ConsoleSize,
    oci_spec::{OciSpecError, runtime::Spec},
    spec::{DefaultSpec, Network},
    types,
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
    pub(crate) memory: Option<u64>,
    pub(crate) cgroup_path: String,
}

/// The configuration for these wishes.
pub(crate) fn build(wishes: Wishes) -> Result<Spec, Failure> {
    configuration(wishes).map_err(|error| Failure::new(format!("write the configuration: {error}")))
}

fn configuration(wishes: Wishes) -> Result<Spec, OciSpecError> {
    let mut spec = DefaultSpec::new(wishes.rootfs, wishes.args)
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
    if let Some(limit) = wishes.memory {
        spec = spec.memory(limit);
    }
    spec.build()
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
            memory: Some(1 << 20),
            terminal: true,
            console_size: Some(ConsoleSize { width: 80, height: 24 }),
            env: vec!["TERM=vt100".into(), "A=1".into()],
            user: types::User { uid: 5, ..types::User::default() },
        };
        let json = serde_json::to_value(build(wishes).unwrap()).unwrap();
        assert_eq!(json["root"]["path"], "/srv/root");
        assert_eq!(json["hostname"], "web");
        assert_eq!(json["linux"]["cgroupsPath"], "/gantry/web");
        assert_eq!(json["linux"]["namespaces"].as_array().unwrap().len(), 4);
        assert_eq!(json["linux"]["resources"]["memory"]["limit"], 1 << 20);
        let process = &json["process"];
        assert_eq!(process["args"], serde_json::json!(["sh"]));
        assert_eq!((&process["user"]["uid"], &process["terminal"]), (&5.into(), &true.into()));
        assert_eq!(process["consoleSize"]["width"], 80);
        let env = process["env"].as_array().unwrap();
        assert_eq!(env[1..], ["HOSTNAME=web", "TERM=vt100", "A=1"]);
    }
}
