//! Options of a mount, as mount(8) has them.

use gantry_domain::Mount;
use nix::{mount::MsFlags, sys::statvfs::FsFlags};

use super::{MountProblem, id_map::IdMaps};

/// Options, sorted by who understands them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    /// Of mount(2), without the propagation.
    pub(super) flags: MsFlags,
    /// Flags that were named to be off, as by `rw`.
    pub(super) cleared: MsFlags,
    /// Each takes a system call of its own.
    pub(super) propagation: Vec<MsFlags>,
    /// What the file system understands.
    pub(super) data: Vec<String>,
    /// The values of `uidmap` and `gidmap`.
    maps: [Option<String>; 2],
}

/// What an option does to a flag.
enum Meaning {
    On(MsFlags),
    Off(MsFlags),
    Propagation(MsFlags),
}

/// Flags of a mount and not of its file system: what can differ between two binds of a directory.
pub(super) const OF_A_MOUNT: MsFlags = MsFlags::MS_RDONLY
    .union(MsFlags::MS_NOSUID)
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC)
    .union(MsFlags::MS_NODIRATIME)
    .union(ACCESS_TIMES);

/// Exclude each other.
pub(super) const ACCESS_TIMES: MsFlags =
    MsFlags::MS_NOATIME.union(MsFlags::MS_RELATIME).union(MsFlags::MS_STRICTATIME);

impl Options {
    /// # Errors
    /// If the type or an option needs more than system calls.
    pub(super) fn parse(mount: &Mount) -> Result<Self, MountProblem> {
        if let Some(helper) = helper(&mount.kind) {
            return Err(MountProblem::Unsupported(format!("a mount by the program {helper}")));
        }
        let mut options = Self {
            flags: match &*mount.kind {
                "bind" => MsFlags::MS_BIND,
                "rbind" => MsFlags::MS_BIND | MsFlags::MS_REC,
                _ => MsFlags::empty(),
            },
            cleared: MsFlags::empty(),
            propagation: Vec::new(),
            data: Vec::new(),
            maps: [None, None],
        };
        for option in &mount.options {
            options.add(option)?;
        }
        Ok(options)
    }

    fn add(&mut self, option: &str) -> Result<(), MountProblem> {
        match meaning(option) {
            Some(Meaning::On(flags)) => {
                self.flags.insert(flags);
                self.cleared.remove(flags);
            }
            Some(Meaning::Off(flags)) => {
                self.flags.remove(flags);
                self.cleared.insert(flags);
            }
            Some(Meaning::Propagation(flags)) => self.propagation.push(flags),
            None if option == "loop" => {
                return Err(MountProblem::Unsupported("the option \"loop\"".to_owned()));
            }
            None if option.starts_with("uidmap=") => self.maps[0] = value(option),
            None if option.starts_with("gidmap=") => self.maps[1] = value(option),
            // Meant for containerd's own code.
            None if option.starts_with("X-containerd.") => {}
            None if option.is_empty() || option == "defaults" => {}
            None => self.data.push(option.to_owned()),
        }
        Ok(())
    }

    /// How ids of files are mapped, if they are.
    pub(super) fn id_maps(&self) -> Result<Option<IdMaps>, MountProblem> {
        match &self.maps {
            [None, None] => Ok(None),
            [Some(uids), Some(gids)] => IdMaps::parse(uids, gids).map(Some),
            _ => {
                let what = "an id-mapped mount with only one of uidmap and gidmap";
                Err(MountProblem::Unsupported(what.to_owned()))
            }
        }
    }

    pub(super) fn is_recursive(&self) -> bool {
        self.flags.contains(MsFlags::MS_REC)
    }

    pub(super) fn is_bind(&self) -> bool {
        self.flags.contains(MsFlags::MS_BIND)
    }

    pub(super) fn is_remount(&self) -> bool {
        self.flags.contains(MsFlags::MS_REMOUNT)
    }

    /// The flags of a second call, as the call that makes a bind ignores flags. `there` are those that the
    /// mount has from its source, and keeps unless the options say otherwise.
    pub(super) fn of_a_bind(&self, there: MsFlags) -> Option<MsFlags> {
        let named = self.flags & OF_A_MOUNT;
        let off = self.cleared & OF_A_MOUNT;
        if named.is_empty() && off.is_empty() {
            return None;
        }
        let mut kept = there & OF_A_MOUNT & !off;
        if named.intersects(ACCESS_TIMES) {
            kept.remove(ACCESS_TIMES);
        }
        Some(named | kept)
    }
}

fn value(option: &str) -> Option<String> {
    option.split_once('=').map(|(_, value)| value.to_owned())
}

/// The program of a type as "fuse3.fuse-overlayfs".
fn helper(kind: &str) -> Option<String> {
    let (helper, _) = kind.split_once('.')?;
    matches!(helper, "fuse" | "fuse3").then(|| format!("mount.{helper}"))
}

fn meaning(option: &str) -> Option<Meaning> {
    use Meaning::{Off, On, Propagation};
    let recursive = |flags: MsFlags| Propagation(flags | MsFlags::MS_REC);
    Some(match option {
        "ro" => On(MsFlags::MS_RDONLY),
        "rw" => Off(MsFlags::MS_RDONLY),
        "nosuid" => On(MsFlags::MS_NOSUID),
        "suid" => Off(MsFlags::MS_NOSUID),
        "nodev" => On(MsFlags::MS_NODEV),
        "dev" => Off(MsFlags::MS_NODEV),
        "noexec" => On(MsFlags::MS_NOEXEC),
        "exec" => Off(MsFlags::MS_NOEXEC),
        "sync" => On(MsFlags::MS_SYNCHRONOUS),
        "async" => Off(MsFlags::MS_SYNCHRONOUS),
        "dirsync" => On(MsFlags::MS_DIRSYNC),
        "remount" => On(MsFlags::MS_REMOUNT),
        "mand" => On(MsFlags::MS_MANDLOCK),
        "nomand" => Off(MsFlags::MS_MANDLOCK),
        "noatime" => On(MsFlags::MS_NOATIME),
        "atime" => Off(MsFlags::MS_NOATIME),
        "nodiratime" => On(MsFlags::MS_NODIRATIME),
        "diratime" => Off(MsFlags::MS_NODIRATIME),
        "relatime" => On(MsFlags::MS_RELATIME),
        "norelatime" => Off(MsFlags::MS_RELATIME),
        "strictatime" => On(MsFlags::MS_STRICTATIME),
        "nostrictatime" => Off(MsFlags::MS_STRICTATIME),
        "bind" => On(MsFlags::MS_BIND),
        "rbind" => On(MsFlags::MS_BIND | MsFlags::MS_REC),
        "private" => Propagation(MsFlags::MS_PRIVATE),
        "rprivate" => recursive(MsFlags::MS_PRIVATE),
        "slave" => Propagation(MsFlags::MS_SLAVE),
        "rslave" => recursive(MsFlags::MS_SLAVE),
        "shared" => Propagation(MsFlags::MS_SHARED),
        "rshared" => recursive(MsFlags::MS_SHARED),
        "unbindable" => Propagation(MsFlags::MS_UNBINDABLE),
        "runbindable" => recursive(MsFlags::MS_UNBINDABLE),
        _ => return None,
    })
}

/// The flags that statvfs(3) shows, as mount(2) knows them.
pub(super) fn from_statvfs(shown: FsFlags) -> MsFlags {
    let known = [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ];
    let mut flags = MsFlags::empty();
    for (shown_as, flag) in known {
        flags.set(flag, shown.contains(shown_as));
    }
    // Shown by the absence of the two others, and without it mount(2) takes relatime.
    flags.set(MsFlags::MS_STRICTATIME, !flags.intersects(ACCESS_TIMES));
    flags
}
