//! Capabilities as people write them: with `CAP_` or without, and `ALL`.

use std::{fs, str::FromStr};

use gantry_client::oci_spec::runtime::Capability;

/// By number, see capabilities(7) and linux/capability.h.
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// One capability, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    All,
    One(Capability),
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        let upper = text.to_ascii_uppercase();
        if upper == "ALL" {
            return Ok(Named::All);
        }
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let parsed = short.parse().map_err(|_| format!("{text:?} is no capability, nor ALL"));
        parsed.map(Named::One)
    }
}

/// All that this command may hand on; the server, of the same machine, can give no others either.
pub(super) fn all() -> impl Iterator<Item = Capability> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bounding = status.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bounding = bounding.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    let bounding = bounding.unwrap_or(u64::MAX);
    BY_NUMBER
        .into_iter()
        .enumerate()
        .filter(move |(bit, _)| bounding >> bit & 1 == 1)
        .map(|(_, it)| it)
}

/// The default ones with what is added, without what is dropped: `ALL` comes first, and what is named counts more.
pub(super) fn chosen(
    defaults: impl IntoIterator<Item = Capability>,
    added: &[Named],
    dropped: &[Named],
) -> Vec<Capability> {
    let mut chosen: Vec<_> = defaults.into_iter().collect();
    if dropped.contains(&Named::All) {
        chosen.clear();
    }
    if added.contains(&Named::All) {
        chosen = all().collect();
    }
    for named in added {
        if let Named::One(capability) = named
            && !chosen.contains(capability)
        {
            chosen.push(*capability);
        }
    }
    chosen.retain(|capability| !dropped.contains(&Named::One(*capability)));
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(texts: &[&str]) -> Vec<Named> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn names_are_those_of_the_field() {
        let admin = Named::One(Capability::NetAdmin);
        for text in ["NET_ADMIN", "CAP_NET_ADMIN", "net_admin", "cap_net_admin"] {
            assert_eq!(text.parse(), Ok(admin), "{text}");
        }
        assert_eq!("all".parse(), Ok(Named::All));
        "net-admin".parse::<Named>().unwrap_err();
    }

    #[test]
    fn what_is_named_counts_more_than_all() {
        let defaults = [Capability::Chown, Capability::Kill];
        let of =
            |added: &[&str], dropped: &[&str]| chosen(defaults, &named(added), &named(dropped));
        assert_eq!(of(&[], &[]), defaults);
        assert_eq!(of(&["KILL", "BPF"], &["CHOWN"]), [Capability::Kill, Capability::Bpf]);
        assert_eq!(of(&["SETUID"], &["ALL"]), [Capability::Setuid]);
        let most = of(&["ALL"], &["SYS_ADMIN"]);
        assert!(most.contains(&Capability::Setuid) && !most.contains(&Capability::SysAdmin));
        assert_eq!(of(&[], &["ALL"]), []);
    }
}
