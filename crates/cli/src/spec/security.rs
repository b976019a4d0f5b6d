//! What a container may do to its host: capabilities, the filter of system calls, and whether programs may get more
//! rights than they start with.

use std::{path::PathBuf, str::FromStr};

use clap::Args;
use gantry_client::{
    oci_spec::runtime::{Capability, LinuxCapabilitiesBuilder, LinuxDeviceCgroupBuilder, Spec},
    spec::seccomp_profile_for,
};

use super::{
    capabilities::{self, Named},
    devices, seccomp, unusable,
};
use crate::failure::Failure;

/// How far a container is confined.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SecurityOptions {
    /// Give a capability beside the default ones, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<Named>,
    /// Take a capability away, or ALL; may be repeated
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<Named>,
    /// Confine it by nothing but its namespaces: all capabilities, all devices, no seccomp, no hidden or read-only files
    #[arg(long)]
    pub(crate) privileged: bool,
    /// seccomp=FILE (linux.seccomp of the OCI runtime specification) or seccomp=unconfined, instead of the default filter;
    /// no-new-privileges[=true|false], by default true unless --privileged
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<SecurityOption>,
}

/// One value of `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SecurityOption {
    Unconfined,
    Profile(PathBuf),
    NoNewPrivileges(bool),
}

impl FromStr for SecurityOption {
    type Err = String;

    fn from_str(text: &str) -> Result<SecurityOption, String> {
        // Docker's separator was a colon once.
        let (key, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (key, value) {
            ("seccomp", "unconfined") => Ok(SecurityOption::Unconfined),
            ("seccomp", path) if !path.is_empty() => Ok(SecurityOption::Profile(path.into())),
            ("no-new-privileges", "" | "true") => Ok(SecurityOption::NoNewPrivileges(true)),
            ("no-new-privileges", "false") => Ok(SecurityOption::NoNewPrivileges(false)),
            _ => Err(format!(
                "{text:?}: want seccomp=FILE, seccomp=unconfined or no-new-privileges[=false]"
            )),
        }
    }
}

impl SecurityOptions {
    /// Applies them to a configuration that has the default capabilities.
    pub(super) fn apply(&self, spec: &mut Spec) -> Result<(), Failure> {
        let chosen = self.capabilities(spec);
        self.confine(spec, &chosen)?;
        if self.privileged {
            open_up(spec)?;
        }
        Ok(())
    }

    fn capabilities(&self, spec: &Spec) -> Vec<Capability> {
        let given = spec.process().as_ref().and_then(|process| process.capabilities().as_ref());
        let given = given.and_then(|sets| sets.bounding().clone()).unwrap_or_default();
        let defaults: Vec<_> = match self.privileged {
            true => capabilities::all().collect(),
            false => given.into_iter().collect(),
        };
        capabilities::chosen(defaults, &self.cap_add, &self.cap_drop)
    }

    fn confine(&self, spec: &mut Spec, chosen: &[Capability]) -> Result<(), Failure> {
        let mut no_new_privileges = !self.privileged;
        let mut filter = match self.privileged {
            true => None,
            false => {
                Some(seccomp_profile_for(|it| chosen.contains(&it)).map_err(|e| unusable(&e))?)
            }
        };
        for option in &self.security_opt {
            match option {
                SecurityOption::Unconfined => filter = None,
                SecurityOption::Profile(path) => filter = Some(seccomp::read(path)?),
                SecurityOption::NoNewPrivileges(wanted) => no_new_privileges = *wanted,
            }
        }
        if let Some(process) = spec.process_mut() {
            let set = || chosen.iter().copied().collect::<std::collections::HashSet<_>>();
            let mut sets = LinuxCapabilitiesBuilder::default()
                .bounding(set())
                .effective(set())
                .permitted(set())
                .build()
                .map_err(|e| unusable(&e))?;
            sets.set_inheritable(None).set_ambient(None);
            process.set_capabilities(Some(sets)).set_no_new_privileges(Some(no_new_privileges));
        }
        if let Some(linux) = spec.linux_mut() {
            linux.set_seccomp(filter);
        }
        Ok(())
    }
}

/// Everything of the host is there, and can be written to.
fn open_up(spec: &mut Spec) -> Result<(), Failure> {
    if let Some(linux) = spec.linux_mut() {
        linux.set_masked_paths(None).set_readonly_paths(None);
        linux.set_devices(Some(devices::of_host()?));
        let any = LinuxDeviceCgroupBuilder::default().allow(true).access("rwm").build();
        if let Some(resources) = linux.resources_mut() {
            resources.set_devices(Some(vec![any.map_err(|e| unusable(&e))?]));
        }
    }
    for mount in spec.mounts_mut().iter_mut().flatten() {
        let is_kernels = mount.typ().as_deref().is_some_and(|it| it == "sysfs" || it == "cgroup");
        if is_kernels && let Some(options) = mount.options_mut() {
            options.retain(|option| option != "ro");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockers() {
        let parse = |text: &str| text.parse::<SecurityOption>();
        assert_eq!(parse("seccomp=unconfined"), Ok(SecurityOption::Unconfined));
        assert_eq!(parse("seccomp:/a=b"), Ok(SecurityOption::Profile("/a=b".into())));
        assert_eq!(parse("no-new-privileges"), Ok(SecurityOption::NoNewPrivileges(true)));
        assert_eq!(parse("no-new-privileges=false"), Ok(SecurityOption::NoNewPrivileges(false)));
        for bad in ["", "seccomp", "seccomp=", "no-new-privileges=no", "apparmor=x"] {
            parse(bad).unwrap_err();
        }
    }
}
