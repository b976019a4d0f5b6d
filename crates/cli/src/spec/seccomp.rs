//! Which system calls a container may make: the default filter of `gantry_client`, and what a capability is of no use
//! without.
//!
//! Which call needs which capability is what capabilities(7) and the calls' own pages say; docker's and containerd's
//! default filters allow the same calls with the same capabilities.

use std::{fs::File, io::Read, path::Path};

use gantry_client::{
    oci_spec::{
        OciSpecError,
        runtime::{
            Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSyscall, LinuxSyscallBuilder,
        },
    },
    spec::seccomp_profile,
};

use crate::failure::Failure;

/// A capability, and calls that nobody else has a use for.
const BY_CAPABILITY: [(Capability, &str); 12] = [
    (Capability::Bpf, "bpf"),
    (Capability::DacReadSearch, "open_by_handle_at name_to_handle_at"),
    (Capability::Perfmon, "perf_event_open"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount \
         name_to_handle_at open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog \
         umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (
        Capability::SysNice,
        "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::SysPacct, "acct"),
    (Capability::SysRawio, "ioperm iopl"),
    (
        Capability::SysTime,
        "clock_adjtime clock_adjtime64 clock_settime clock_settime64 settimeofday stime",
    ),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::Syslog, "syslog"),
];

/// More than any profile has.
const LARGEST: u64 = 1 << 20;

/// The default filter of a container with these capabilities.
pub(super) fn for_capabilities(
    has: impl Fn(Capability) -> bool,
) -> Result<LinuxSeccomp, OciSpecError> {
    let mut profile = seccomp_profile()?;
    let mut rules = profile.syscalls().clone().unwrap_or_default();
    if has(Capability::SysAdmin) {
        // The rules that keep clone from making namespaces.
        rules.retain(|rule| !is_about(rule, "clone") && !is_about(rule, "clone3"));
    }
    let mut names: Vec<_> = BY_CAPABILITY
        .iter()
        .filter(|(capability, _)| has(*capability))
        .flat_map(|(_, names)| names.split_whitespace().map(str::to_owned))
        .collect();
    names.sort_unstable();
    names.dedup();
    if !names.is_empty() {
        let allowed = LinuxSyscallBuilder::default()
            .names(names)
            .action(LinuxSeccompAction::ScmpActAllow)
            .build()?;
        rules.push(allowed);
    }
    profile.set_syscalls(Some(rules));
    Ok(profile)
}

fn is_about(rule: &LinuxSyscall, name: &str) -> bool {
    matches!(rule.names().as_slice(), [only] if only == name)
}

/// The filter in a file: `linux.seccomp` of the OCI runtime specification.
pub(super) fn read(path: &Path) -> Result<LinuxSeccomp, Failure> {
    let bad = |problem: &str| {
        Failure::new(format!("--security-opt: seccomp: {}: {problem}", path.display()))
    };
    let mut data = Vec::new();
    let file = File::open(path).map_err(|error| bad(&error.to_string()))?;
    file.take(LARGEST + 1).read_to_end(&mut data).map_err(|error| bad(&error.to_string()))?;
    if u64::try_from(data.len()).is_ok_and(|length| length > LARGEST) {
        return Err(bad("more than 1 MiB is no profile"));
    }
    let value: serde_json::Value =
        serde_json::from_slice(&data).map_err(|error| bad(&error.to_string()))?;
    let conditions = ["includes", "excludes"];
    let rules = value["syscalls"].as_array().into_iter().flatten();
    let has_conditions = |rule: &serde_json::Value| {
        conditions.iter().any(|key| rule[*key].as_object().is_some_and(|it| !it.is_empty()))
    };
    if value.get("archMap").is_some() || rules.into_iter().any(has_conditions) {
        return Err(bad(
            "archMap, includes and excludes are docker's: want linux.seccomp of the OCI runtime specification",
        ));
    }
    serde_json::from_value(value).map_err(|error| bad(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::fs;

    fn rules(capabilities: &[Capability]) -> Vec<Value> {
        let profile = for_capabilities(|capability| capabilities.contains(&capability)).unwrap();
        let json = serde_json::to_value(profile).unwrap();
        json["syscalls"].as_array().unwrap().clone()
    }

    fn about<'a>(rules: &'a [Value], name: &str) -> Vec<&'a Value> {
        let names = |rule: &&Value| rule["names"].as_array().unwrap().contains(&json!(name));
        rules.iter().filter(names).collect()
    }

    #[test]
    fn a_capability_brings_its_calls() {
        let none = rules(&[]);
        for (capability, names) in BY_CAPABILITY {
            let some = rules(&[capability]);
            for name in names.split_whitespace() {
                let before = about(&none, name);
                assert!(
                    before.iter().all(|rule| rule["args"].is_array() || name == "clone3"),
                    "{name}"
                );
                let [rule] = about(&some, name)[..] else { panic!("{name}: one rule") };
                assert_eq!(rule["action"], "SCMP_ACT_ALLOW", "{name}");
                assert!(rule.get("args").is_none(), "{name}");
            }
        }
    }

    #[test]
    fn a_profile_is_the_specifications() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("profile.json");
        let read_back = |json: Value| {
            fs::write(&path, json.to_string()).unwrap();
            read(&path)
        };
        let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
        let good = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
        let profile = read_back(good.clone()).unwrap();
        assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActAllow);
        let mut dockers = good;
        dockers["syscalls"][0]["includes"] = json!({ "caps": ["CAP_SYS_ADMIN"] });
        assert!(read_back(dockers).unwrap_err().to_string().contains("docker's"));
        let nothing = read_back(json!({ "defaultAction": "NONSENSE" })).unwrap_err().to_string();
        assert!(nothing.contains("profile.json: "), "{nothing}");
        read(Path::new("/no/such")).unwrap_err();
    }
}
