use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;

fn rules(capabilities: &[Capability]) -> Vec<Value> {
    let profile = seccomp_profile_for(|capability| capabilities.contains(&capability)).unwrap();
    let json = serde_json::to_value(profile).unwrap();
    json["syscalls"].as_array().unwrap().clone()
}

fn about<'a>(rules: &'a [Value], name: &str) -> Vec<&'a Value> {
    let names = |rule: &&Value| rule["names"].as_array().unwrap().contains(&json!(name));
    rules.iter().filter(names).collect()
}

#[test]
fn nothing_that_reaches_the_host_is_allowed() {
    let rules = rules(&[]);
    let allowed: BTreeSet<_> =
        rules[0]["names"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for name in [
        "bpf",
        "chroot",
        "clone",
        "clone3",
        "init_module",
        "io_uring_setup",
        "kcmp",
        "kexec_load",
        "keyctl",
        "migrate_pages",
        "mount",
        "move_mount",
        "open_by_handle_at",
        "perf_event_open",
        "personality",
        "pidfd_getfd",
        "pivot_root",
        "process_madvise",
        "reboot",
        "setns",
        "settimeofday",
        "socket",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
    ] {
        assert!(!allowed.contains(name), "{name}");
    }
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
fn clone_makes_no_namespaces() {
    let rules = rules(&[]);
    let [clone] = about(&rules, "clone")[..] else { panic!("one rule") };
    let index = u64::from(cfg!(target_arch = "s390x"));
    let flags = json!({
        "index": index, "value": 0x7E02_0000_u32, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"
    });
    assert_eq!(clone["args"], json!([flags]));
    let [clone3] = about(&rules, "clone3")[..] else { panic!("one rule") };
    assert_eq!(clone3["errnoRet"], ENOSYS);
}

/// What the filter says about socket(2), read as a runtime reads it: one rule that fits is enough.
#[test]
fn sockets_are_of_all_families_but_two() {
    let rules = rules(&[Capability::SysAdmin]);
    let is_allowed = |family: u64| {
        about(&rules, "socket").iter().any(|rule| {
            let [arg] = &rule["args"].as_array().unwrap()[..] else { panic!("one condition") };
            let value = arg["value"].as_u64().unwrap();
            assert_eq!(arg["index"], 0);
            match arg["op"].as_str().unwrap() {
                "SCMP_CMP_LT" => family < value,
                "SCMP_CMP_EQ" => family == value,
                "SCMP_CMP_GT" => family > value,
                other => panic!("{other}"),
            }
        })
    };
    let refused: Vec<_> = (0..64).filter(|family| !is_allowed(*family)).collect();
    assert_eq!(refused, [AF_ALG, AF_VSOCK]);
}

/// runc knows all of these but SCMP_ARCH_NATIVE.
#[test]
fn architectures_have_names() {
    let profile = serde_json::to_value(seccomp_profile().unwrap()).unwrap();
    let names = profile["architectures"].as_array().into_iter().flatten();
    assert!(names.clone().all(|name| name != "SCMP_ARCH_NATIVE"), "{profile}");
    #[cfg(target_arch = "x86_64")]
    assert_eq!(names.count(), 3);
}
