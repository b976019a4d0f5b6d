//! Converts the daemon's types to the contract's messages.

use std::path::Path;

use gantry_api::types::{self, AddProcessRequest};
use oci_spec::runtime::{LinuxCapabilities, PosixRlimit, Process, User};

use crate::error::{Error, ErrorKind, Result};

/// A path as the wire carries it: absolute and UTF-8.
pub(crate) fn path(path: &Path) -> Result<String> {
    let refuse = |why: &str| {
        let kind = ErrorKind::InvalidArgument {
            message: format!("{} is {why}", path.display()),
            violations: Vec::new(),
        };
        Error::new("use path", kind)
    };
    match path.to_str() {
        None => Err(refuse("not UTF-8")),
        Some(_) if path.is_relative() => Err(refuse("not absolute")),
        Some(text) => Ok(text.to_owned()),
    }
}

/// A request for a further process; container, process id and streams are left to fill in.
pub(crate) fn add_process(process: &Process) -> AddProcessRequest {
    AddProcessRequest {
        terminal: process.terminal().unwrap_or_default(),
        user: Some(user(process.user())),
        args: process.args().clone().unwrap_or_default(),
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().to_string_lossy().into_owned(),
        capabilities: process.capabilities().as_ref().map(capabilities).unwrap_or_default(),
        apparmor_profile: process.apparmor_profile().clone().unwrap_or_default(),
        selinux_label: process.selinux_label().clone().unwrap_or_default(),
        no_new_privileges: process.no_new_privileges().unwrap_or_default(),
        rlimits: process.rlimits().iter().flatten().map(rlimit).collect(),
        ..AddProcessRequest::default()
    }
}

/// A request for a further process that has what a container's own process has.
pub(crate) fn add_process_like(init: types::Process) -> AddProcessRequest {
    AddProcessRequest {
        user: init.user,
        env: init.env,
        cwd: init.cwd,
        capabilities: init.capabilities,
        apparmor_profile: init.apparmor_profile,
        selinux_label: init.selinux_label,
        no_new_privileges: init.no_new_privileges,
        rlimits: init.rlimits,
        ..AddProcessRequest::default()
    }
}

fn user(user: &User) -> types::User {
    types::User {
        uid: user.uid(),
        gid: user.gid(),
        additional_gids: user.additional_gids().clone().unwrap_or_default(),
    }
}

/// The wire has one list for the bounding, effective and permitted sets.
fn capabilities(sets: &LinuxCapabilities) -> Vec<String> {
    let mut names: Vec<_> = sets.bounding().iter().flatten().map(|c| format!("CAP_{c}")).collect();
    names.sort_unstable();
    names
}

fn rlimit(limit: &PosixRlimit) -> types::Rlimit {
    types::Rlimit { r#type: limit.typ().to_string(), soft: limit.soft(), hard: limit.hard() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{
        Capability, LinuxCapabilitiesBuilder, PosixRlimitBuilder, PosixRlimitType, ProcessBuilder,
        UserBuilder,
    };

    #[test]
    fn a_process_is_translated() {
        let capabilities = LinuxCapabilitiesBuilder::default()
            .bounding([Capability::NetBindService, Capability::Chown])
            .build()
            .unwrap();
        let limit = PosixRlimitBuilder::default()
            .typ(PosixRlimitType::RlimitNofile)
            .soft(1_u64)
            .hard(2_u64)
            .build()
            .unwrap();
        let user =
            UserBuilder::default().uid(5_u32).gid(6_u32).additional_gids([7]).build().unwrap();
        let process = ProcessBuilder::default()
            .args(["ls".to_owned()])
            .cwd("/srv")
            .user(user)
            .capabilities(capabilities)
            .rlimits([limit])
            .build()
            .unwrap();
        let request = add_process(&process);
        assert_eq!(request.args, ["ls"]);
        assert_eq!(request.cwd, "/srv");
        assert_eq!(request.capabilities, ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"]);
        assert_eq!(request.rlimits[0].r#type, "RLIMIT_NOFILE");
        assert_eq!(request.user.unwrap().additional_gids, [7]);
    }

    #[test]
    fn only_absolute_paths_go_out() {
        assert_eq!(path(Path::new("/a/b")).unwrap(), "/a/b");
        path(Path::new("a/b")).unwrap_err();
    }
}
