//! Writes hosts, hostname and resolv.conf, which the container gets mounted over its own.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{hosts, network::Files};
use crate::{Error, Result, container::Container, host::Host};

/// The files, by their names in /etc.
pub(super) const NAMES: [&str; 3] = [hosts::NAME, "hostname", "resolv.conf"];

const ETC: &str = "/etc";

/// What was written for a container. Dropping it removes that.
#[derive(Debug)]
pub(crate) struct WrittenFiles {
    /// None where nothing was, or the files are another container's.
    dir: Option<PathBuf>,
}

/// Where the files of a container are, or will be.
pub(super) fn directory(container: &Container, files: &Files) -> Option<PathBuf> {
    match files {
        Files::Own | Files::LikeHost => Some(container.dir().to_owned()),
        Files::Shared(dir) => Some(dir.clone()),
        Files::Absent => None,
    }
}

pub(super) fn write(host: &Host, container: &Container, files: &Files) -> Result<WrittenFiles> {
    if !matches!(files, Files::Own | Files::LikeHost) {
        return Ok(WrittenFiles { dir: None });
    }
    let dir = container.dir();
    let written = WrittenFiles { dir: Some(dir.to_owned()) };
    let resolv_conf = of_host("resolv.conf")?;
    if *files == Files::LikeHost {
        write_file(&dir.join(hosts::NAME), &of_host(hosts::NAME)?)?;
        write_file(&dir.join("resolv.conf"), &resolv_conf)?;
    } else {
        hosts::write(host, container)?;
        write_file(&dir.join("resolv.conf"), &reachable(&resolv_conf))?;
    }
    write_file(
        &dir.join("hostname"),
        &format!("{}\n", container.record().state.identity.hostname),
    )?;
    for name in NAMES {
        readable_by_all(&dir.join(name))?;
    }
    Ok(written)
}

/// Takes over the files that an earlier daemon has written.
pub(super) fn adopt(container: &Container) -> WrittenFiles {
    let dir = container.record().state.files.filter(|dir| dir == container.dir());
    WrittenFiles { dir }
}

impl Drop for WrittenFiles {
    fn drop(&mut self) {
        for path in self.dir.iter().flat_map(|dir| NAMES.map(|name| dir.join(name))) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "file not removed");
                }
                _ => {}
            }
        }
    }
}

/// A file of the host's /etc; one that is missing is empty.
fn of_host(name: &str) -> Result<String> {
    let path = Path::new(ETC).join(name);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.map_err(|error| Error::io("read", &path, error)),
    }
}

/// Leaves out the name servers that listen on the host's loopback interface, which is not the
/// container's.
fn reachable(resolv_conf: &str) -> String {
    let is_local = |line: &str| {
        let mut words = line.split_whitespace();
        let server = (words.next() == Some("nameserver")).then(|| words.next()).flatten();
        server.is_some_and(|server| server.starts_with("127.") || server == "::1")
    };
    let lines = resolv_conf.lines().filter(|line| !is_local(line));
    lines.map(|line| format!("{line}\n")).collect()
}

fn write_file(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(|error| Error::io("write", path, error))
}

/// Users of the container are not the daemon's, whatever its umask.
fn readable_by_all(path: &Path) -> Result<()> {
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(path, mode).map_err(|error| Error::io("set the mode of", path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreachable_name_servers_are_left_out() {
        let text = "search example\nnameserver 127.0.0.53\nnameserver 9.9.9.9\nnameserver ::1\n";
        assert_eq!(reachable(text), "search example\nnameserver 9.9.9.9\n");
    }
}
