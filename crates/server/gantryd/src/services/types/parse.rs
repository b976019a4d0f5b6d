//! Fields of requests, checked once: all other code has valid ids and paths.

use gantry_domain::{ContainerId, ProcessId, Stdio};

use crate::rpc::BadField;
pub(super) use crate::services::{
    numbers::signal,
    path::{absolute as absolute_path, optional as optional_path, stream},
};

pub(super) fn container_id(id: &str) -> Result<ContainerId, BadField> {
    ContainerId::parse(id).map_err(|error| BadField::new("id", error.to_string()))
}

pub(super) fn process_id(pid: &str) -> Result<ProcessId, BadField> {
    ProcessId::parse(pid).map_err(|error| BadField::new("pid", error.to_string()))
}

/// A name that becomes a directory; the rules are those of an id.
pub(super) fn name(field: &'static str, name: &str) -> Result<String, BadField> {
    match ContainerId::parse(name) {
        Ok(name) => Ok(name.into()),
        Err(error) => Err(BadField::new(field, error.to_string())),
    }
}

pub(super) fn stdio(stdin: &str, stdout: &str, stderr: &str) -> Result<Stdio, BadField> {
    Ok(Stdio {
        stdin: stream("stdin", stdin)?,
        stdout: stream("stdout", stdout)?,
        stderr: stream("stderr", stderr)?,
    })
}

/// Strings that become arguments of programs. How many there are, and how long, was checked when they
/// arrived (`crate::rpc::admission`).
pub(super) fn strings(field: &'static str, strings: Vec<String>) -> Result<Vec<String>, BadField> {
    if strings.iter().any(|string| string.contains('\0')) {
        return Err(BadField::new(field, "must not contain a NUL"));
    }
    Ok(strings)
}
