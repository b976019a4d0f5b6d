//! Paths of the configuration, and names of programs.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{ConfigError, SHIM, value};

/// `--shim` only names the processes: a path there is another program's, which is never run.
pub(super) fn shim_name(name: Option<&str>) -> OsString {
    let name = name.and_then(|name| Path::new(name).file_name());
    name.map_or_else(|| OsString::from(SHIM), OsString::from)
}

/// The path after `unix://`, which daemons of 2017 put before it.
pub(super) fn socket<'a>(key: &'static str, listen: &'a Path) -> Result<&'a Path, ConfigError> {
    let bytes = listen.as_os_str().as_bytes();
    let path = bytes.strip_prefix(b"unix://").unwrap_or(bytes);
    if path.windows(3).any(|part| part == b"://") {
        let problem = format!("only unix sockets are served, not {}", listen.display());
        return Err(value(key, problem));
    }
    Ok(Path::new(OsStr::from_bytes(path)))
}

/// Makes the path absolute: shims run in other directories.
pub(super) fn located(runtime: String) -> Result<String, ConfigError> {
    if !runtime.contains('/') {
        return Ok(runtime);
    }
    let path = absolute("runtime", Path::new(&runtime))?;
    path.into_os_string().into_string().map_err(|path| {
        value("runtime", format!("must be UTF-8 with its directory, is {}", path.display()))
    })
}

pub(super) fn absolute(key: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| value(key, format!("{path:?}: {error}")))
}

/// The directory of the real executable, even if started through a link named containerd.
pub(super) fn beside_this_program() -> Result<PathBuf, ConfigError> {
    let program = std::env::current_exe().map_err(|cause| ConfigError::Environment {
        what: "where this program is, to find the shim",
        cause,
    })?;
    Ok(program.with_file_name(SHIM))
}
