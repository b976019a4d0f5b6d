//! Makes the specification that the runtime is given.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gantry_client::{
    oci_spec::{
        OciSpecError,
        runtime::{Capability, Mount, MountBuilder, Spec},
    },
    spec::{DefaultSpec, Network, seccomp_profile},
    types,
};

use super::{files, network::Namespace};
use crate::{
    Error, Result,
    model::{BindMount, Record, Resources},
};

type SpecResult<T> = std::result::Result<T, OciSpecError>;

/// What the steps before have made.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) root: &'a Path,
    pub(super) namespace: &'a Namespace,
    pub(super) cgroup_parent: &'a Path,
}

/// The specification of a container whose record says how it is called and where its files are.
pub(super) fn build(record: &Record, parts: &Parts<'_>) -> Result<Spec> {
    let config = &record.config;
    check_sources(&config.mounts)?;
    let network = match parts.namespace {
        Namespace::Own => Network::Own,
        Namespace::At(path) => Network::At(path.clone()),
        Namespace::Host => Network::Host,
    };
    let user = types::User {
        uid: config.user.uid,
        gid: config.user.gid,
        additional_gids: config.user.additional_gids.clone(),
    };
    let mut spec = DefaultSpec::new(parts.root, config.args.clone())
        .read_only_root(config.root.read_only)
        .env(config.env.clone())
        .cwd(&config.cwd)
        .user(user)
        .hostname(&record.state.identity.hostname)
        .terminal(config.terminal)
        .network(network)
        .add_capabilities(parse_capabilities(&config.add_capabilities)?)
        .drop_capabilities(parse_capabilities(&config.drop_capabilities)?)
        .mounts(mounts(record)?)
        .sysctl(sysctls(record))
        .cgroups_path(parts.cgroup_parent.join(&record.id));
    if !config.seccomp_unconfined {
        spec = spec.seccomp(seccomp_profile()?);
    }
    Ok(limited(spec, &config.resources).build()?)
}

/// Zero is no limit.
fn limited(mut spec: DefaultSpec, limits: &Resources) -> DefaultSpec {
    if limits.memory > 0 {
        spec = spec.memory(limits.memory.min(i64::MAX.unsigned_abs()));
    }
    if limits.pids > 0 {
        spec = spec.pids(limits.pids);
    }
    if limits.cpu_shares > 0 {
        spec = spec.cpu_shares(limits.cpu_shares.into());
    }
    spec
}

/// The specification's own field for it is not known to runtimes before version 1.1 of that.
fn sysctls(record: &Record) -> Option<(String, String)> {
    let domainname = record.state.identity.domainname.as_ref()?;
    Some(("kernel.domainname".to_owned(), domainname.clone()))
}

fn check_sources(mounts: &[BindMount]) -> Result<()> {
    mounts.iter().try_for_each(|mount| {
        let found = fs::metadata(&mount.source).map(drop);
        found.map_err(|error| Error::unusable("mounts.source", &mount.source, error))
    })
}

/// Capabilities by name, with `CAP_` or without.
pub(crate) fn parse_capabilities(names: &[String]) -> SpecResult<Vec<Capability>> {
    let parse = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let unknown = |_| OciSpecError::Other(format!("{name:?} is no capability"));
        short.parse::<Capability>().map_err(unknown)
    };
    names.iter().map(parse).collect()
}

fn mounts(record: &Record) -> SpecResult<Vec<Mount>> {
    let files = record.state.files.iter().flat_map(|dir| files::NAMES.map(|name| dir.join(name)));
    let files = files.map(|source| {
        let destination = Path::new("/etc").join(source.file_name().unwrap_or_default());
        bind(&BindMount { source, destination, read_only: false })
    });
    files.chain(record.config.mounts.iter().map(bind)).collect()
}

fn bind(mount: &BindMount) -> SpecResult<Mount> {
    let mut options = vec!["rbind".to_owned(), "rprivate".to_owned()];
    options.extend(mount.read_only.then(|| "ro".to_owned()));
    MountBuilder::default()
        .destination(PathBuf::from(&mount.destination))
        .typ("bind")
        .source(PathBuf::from(&mount.source))
        .options(options)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{container::testing, model::Identity};
    use serde_json::{Value, json};
    use std::collections::BTreeSet;

    fn record() -> Record {
        let mut record = Record::new("1".repeat(64), "web".into(), testing::config());
        record.state.identity = Identity { hostname: "web".into(), domainname: None };
        record
    }

    fn built(record: &Record, namespace: &Namespace) -> Value {
        let parts =
            Parts { root: Path::new("/srv/root"), namespace, cgroup_parent: Path::new("/gantry") };
        serde_json::to_value(build(record, &parts).unwrap()).unwrap()
    }

    #[test]
    fn is_private_and_unprivileged() {
        let spec = built(&record(), &Namespace::Own);
        assert_eq!(spec["linux"]["namespaces"].as_array().unwrap().len(), 5);
        assert_eq!(spec["linux"]["cgroupsPath"], format!("/gantry/{}", "1".repeat(64)));
        assert_eq!(spec["linux"]["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(spec["process"]["noNewPrivileges"], true);
        assert_eq!(spec["root"]["path"], "/srv/root");
        let sets = &spec["process"]["capabilities"];
        // In no order.
        let set = |name: &str| {
            let names = sets[name].as_array().unwrap().iter();
            names.map(Value::to_string).collect::<BTreeSet<_>>()
        };
        assert_eq!(set("bounding"), set("permitted"));
        assert!(sets.get("inheritable").is_none() && sets.get("ambient").is_none());
        assert!(spec["process"].get("rlimits").is_none());
    }

    #[test]
    fn the_network_is_the_one_that_was_made() {
        let namespace = |spec: &Value| {
            let all = spec["linux"]["namespaces"].as_array().unwrap();
            all.iter().find(|n| n["type"] == "network").cloned()
        };
        let at = built(&record(), &Namespace::At("/run/ns".into()));
        assert_eq!(namespace(&at), Some(json!({ "type": "network", "path": "/run/ns" })));
        assert_eq!(namespace(&built(&record(), &Namespace::Host)), None);
    }

    #[test]
    fn wishes_are_met() {
        let mut record = record();
        record.state.files = Some("/var/lib/web".into());
        record.config.env = vec!["PATH=/bin".into(), "A=1".into()];
        record.config.add_capabilities = vec!["CAP_NET_ADMIN".into()];
        record.config.drop_capabilities = vec!["chown".into()];
        record.config.resources = Resources { memory: 1 << 20, pids: 7, cpu_shares: 0 };
        record.config.seccomp_unconfined = true;
        let spec = built(&record, &Namespace::Own);
        assert_eq!(spec["process"]["env"], json!(["HOSTNAME=web", "PATH=/bin", "A=1"]));
        let bounding = spec["process"]["capabilities"]["bounding"].as_array().unwrap();
        assert!(
            bounding.contains(&json!("CAP_NET_ADMIN")) && !bounding.contains(&json!("CAP_CHOWN"))
        );
        assert_eq!(spec["linux"]["resources"]["memory"]["limit"], 1 << 20);
        assert_eq!(spec["linux"]["resources"]["pids"]["limit"], 7);
        assert!(spec["linux"]["resources"].get("cpu").is_none());
        assert!(spec["linux"].get("seccomp").is_none());
        let mounts = spec["mounts"].as_array().unwrap();
        let hosts = mounts.iter().find(|m| m["destination"] == "/etc/hosts").unwrap();
        assert_eq!(hosts["source"], "/var/lib/web/hosts");
    }

    #[test]
    fn a_mount_of_nothing_is_refused() {
        let mut record = record();
        record.config.mounts = vec![BindMount {
            source: "/no/such/source".into(),
            destination: "/mnt".into(),
            read_only: true,
        }];
        let parts = Parts {
            root: Path::new("/srv"),
            namespace: &Namespace::Own,
            cgroup_parent: Path::new("/g"),
        };
        let error = build(&record, &parts).unwrap_err();
        assert!(error.to_string().contains("/no/such/source"), "{error}");
    }
}
