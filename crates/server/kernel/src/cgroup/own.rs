//! The cgroup of the server itself, a group below the one that the service manager gave it.
//!
//! A limit of the server's memory is put there and not on the manager's group, as shims, and
//! containers whose cgroup path is relative, are below that one as well.
//!
//! On v1 only the memory hierarchy matters, and the server moves itself. On v2 a group that delegates
//! controllers cannot hold processes, and systemd could not restart the server in it. So systemd itself must
//! put the server into the group (`DelegateSubgroup=server`, since 254).

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

use super::{CgroupError, Hierarchies, file};

/// The server's group.
const SERVER: &str = "server";

/// On v2: the group of the shims.
const SHIMS: &str = "shims";

/// How much memory the server may take, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OwnLimits {
    /// The kernel kills the server rather than give it more.
    pub max: Option<u64>,
    /// Above this the kernel reclaims memory, and on v2 slows the server down.
    pub high: Option<u64>,
}

impl OwnLimits {
    fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// Why the server's memory is not limited.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum OwnLimitError {
    #[error("the server has no memory cgroup that it can see")]
    NoMemory,
    #[error("the server is in the root cgroup, which has no limits")]
    Root,
    #[error("{} is not {SERVER:?}: the unit needs DelegateSubgroup={SERVER}, of systemd 254", .0.display())]
    NotDelegated(PathBuf),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

/// The cgroup for shims, which are started in the server's cgroup.
#[derive(Debug, Clone, Default)]
pub struct ShimCgroup(Option<PathBuf>);

impl ShimCgroup {
    /// Moves a shim that was just started to the cgroup where the server's limits do not apply.
    pub fn take_in(&self, pid: u32) -> Result<(), CgroupError> {
        match &self.0 {
            Some(dir) => file::write(&dir.join("cgroup.procs"), &pid.to_string()),
            None => Ok(()),
        }
    }
}

/// Limits the server's memory, and nobody else's. To be called before anything is started.
pub fn limit_own(
    hierarchies: &Hierarchies,
    limits: OwnLimits,
) -> Result<ShimCgroup, OwnLimitError> {
    if limits.is_none() {
        return Ok(ShimCgroup::default());
    }
    if let Some((mount, own)) = hierarchies.own_dir("memory") {
        let shims = limit_v1(mount, own, limits)?;
        return Ok(ShimCgroup(Some(shims)));
    }
    let (mount, own) = hierarchies.own_dir("").ok_or(OwnLimitError::NoMemory)?;
    let shims = limit_v2(mount, own, limits)?;
    Ok(ShimCgroup(Some(shims)))
}

fn limit_v1(mount: &Path, own: &Path, limits: OwnLimits) -> Result<PathBuf, OwnLimitError> {
    let base = if own.ends_with(SERVER) { own.parent().unwrap_or(own) } else { own };
    if base == mount {
        return Err(OwnLimitError::Root);
    }
    let server = base.join(SERVER);
    make(&server)?;
    set(&server.join("memory.limit_in_bytes"), limits.max)?;
    set(&server.join("memory.soft_limit_in_bytes"), limits.high)?;
    file::write(&server.join("cgroup.procs"), &process::id().to_string())?;
    Ok(base.to_owned())
}

fn limit_v2(mount: &Path, own: &Path, limits: OwnLimits) -> Result<PathBuf, OwnLimitError> {
    let base = own.parent().filter(|base| own.ends_with(SERVER) && *base != mount);
    let base = base.ok_or_else(|| OwnLimitError::NotDelegated(own.to_owned()))?;
    file::write(&base.join("cgroup.subtree_control"), "+memory")?;
    set(&own.join("memory.max"), limits.max)?;
    set(&own.join("memory.high"), limits.high)?;
    let shims = base.join(SHIMS);
    make(&shims)?;
    Ok(shims)
}

fn make(dir: &Path) -> Result<(), CgroupError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(CgroupError::io("make", dir, error))
        }
        _ => Ok(()),
    }
}

fn set(path: &Path, limit: Option<u64>) -> Result<(), CgroupError> {
    limit.map_or(Ok(()), |limit| file::write(path, &limit.to_string()))
}
