//! Names of capabilities, see capabilities(7).

use super::parse;
use crate::rpc::BadField;

/// All that Linux has, in the order of their numbers.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// The capabilities of a process. An unknown name is an error: runc and crun would silently leave it
/// out. One that this kernel lacks is passed to the runtime, which leaves it out: a
/// daemon sends all of its own, perhaps newer, list. Upper and lower case are the same, as for
/// crun; runc requires upper case.
pub(super) fn parse(names: Vec<String>) -> Result<Vec<String>, BadField> {
    let mut names = parse::strings("capabilities", names)?;
    for name in &mut names {
        if !NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(BadField::new("capabilities", format!("{name:?} is not a capability")));
        }
        name.make_ascii_uppercase();
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_an_error() {
        let parse = |names: &[&str]| parse(names.iter().map(ToString::to_string).collect());
        assert_eq!(parse(&["CAP_CHOWN", "cap_bpf"]).unwrap(), ["CAP_CHOWN", "CAP_BPF"]);
        assert!(parse(&[]).unwrap().is_empty());
        for bad in ["CAP_FOO", "CHOWN", "", "ALL", " CAP_CHOWN"] {
            let error = parse(&["CAP_KILL", bad]).unwrap_err();
            assert_eq!(error.field, "capabilities");
            assert!(error.problem.contains(&format!("{bad:?}")), "{error}");
        }
    }
}
