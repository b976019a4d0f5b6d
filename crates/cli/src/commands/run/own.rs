//! A container of a bundle that somebody else has written: `config.json` and what it names.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gantry_client::oci_spec::runtime::{Mount, Spec};

use crate::failure::Failure;

/// Options that are about an image or a directory, or change a configuration, which is used as it is here.
pub(super) const OF_CONFIGURATIONS: [&str; 24] = [
    "rootfs",
    "name",
    "env",
    "env_file",
    "cwd",
    "user",
    "hostname",
    "net",
    "read_only",
    "mount",
    "volume",
    "tmpfs",
    "device",
    "cap_add",
    "cap_drop",
    "privileged",
    "security_opt",
    "memory",
    "cpus",
    "cpu_shares",
    "pids_limit",
    "entrypoint",
    "platform",
    "snapshotter",
];

/// The configuration of a bundle, for a container whose bundle is another directory.
pub(super) fn configuration(
    bundle: &Path,
    cgroup_path: Option<&str>,
    terminal: bool,
) -> Result<Spec, Failure> {
    let bundle = fs::canonicalize(bundle)
        .map_err(|e| Failure::io(format!("--bundle: {}", bundle.display()), &e))?;
    let path = bundle.join("config.json");
    let bad = |problem: String| Failure::new(format!("--bundle: {}: {problem}", path.display()));
    let text = fs::read(&path).map_err(|e| bad(e.to_string()))?;
    let mut spec: Spec = serde_json::from_slice(&text).map_err(|e| bad(e.to_string()))?;
    let wants = spec.process().as_ref().and_then(|it| it.terminal()).unwrap_or_default();
    match (wants, terminal) {
        (true, false) => return Err(bad("process.terminal is true: add -t".to_owned())),
        (false, true) => {
            return Err(bad("process.terminal is not true, but there is -t".to_owned()));
        }
        _ => {}
    }
    let root = spec.root_mut().as_mut();
    let root = root.ok_or_else(|| bad("there is no root".to_owned()))?;
    // A relative one is below the bundle (config.md of the specification).
    let absolute: PathBuf = bundle.join(root.path());
    root.set_path(absolute);
    for mount in spec.mounts_mut().iter_mut().flatten() {
        if let Some(source) = mount.source().as_ref().filter(|_| is_bind(mount)) {
            let absolute = bundle.join(source);
            mount.set_source(Some(absolute));
        }
    }
    if let (Some(wanted), Some(linux)) = (cgroup_path, spec.linux_mut()) {
        linux.set_cgroups_path(Some(wanted.into()));
    }
    Ok(spec)
}

/// Whether it is of a file or directory of the host's (config.md, "Linux mount options").
fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().iter().flatten();
    mount.typ().as_deref() == Some("bind")
        || options.into_iter().any(|option| option == "bind" || option == "rbind")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_configuration_is_used_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let of = |config: Value, terminal: bool| {
            fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
            configuration(dir.path(), Some("/web"), terminal)
        };
        let process = json!({ "user": { "uid": 0, "gid": 0 }, "args": ["true"], "cwd": "/" });
        let good = json!({
            "ociVersion": "1.0.2", "process": process, "root": { "path": "rootfs" }, "linux": {},
            "mounts": [
                { "destination": "/a", "type": "bind", "source": "data" },
                { "destination": "/b", "type": "none", "source": "data", "options": ["rbind"] },
                { "destination": "/c", "type": "bind", "source": "/data" },
                { "destination": "/d", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/e", "type": "proc" }
            ]
        });
        let spec = serde_json::to_value(of(good.clone(), false).unwrap()).unwrap();
        let root = fs::canonicalize(dir.path()).unwrap().join("rootfs");
        assert_eq!(spec["root"]["path"], root.to_str().unwrap());
        let data = root.with_file_name("data");
        let sources: Vec<_> =
            (0..5).map(|index| spec["mounts"][index]["source"].as_str()).collect();
        assert_eq!(sources, [data.to_str(), data.to_str(), Some("/data"), Some("tmpfs"), None]);
        assert_eq!(spec["linux"]["cgroupsPath"], "/web");
        assert_eq!(spec["process"]["args"], json!(["true"]));
        assert!(of(good.clone(), true).unwrap_err().to_string().ends_with("but there is -t"));
        let mut rootless = good;
        rootless.as_object_mut().unwrap().remove("root");
        assert!(of(rootless, false).unwrap_err().to_string().ends_with("there is no root"));
        assert!(of(json!(1), false).unwrap_err().to_string().contains("config.json: "));
        configuration(&dir.path().join("none"), None, false).unwrap_err();
    }
}
