//! Mounts whose files have other owners than on the disk, as the options `uidmap=` and `gidmap=` say (Linux 5.12, and 5.19
//! for layers of an overlay): see mount_setattr(2), "ID-mapped mounts".
//!
//! The kernel takes the ids from a user namespace, which only a process can make. A bind is mapped itself. Of an overlay the lower
//! layers are, each in its own place, in a mount namespace of a thread; the overlay is made there and carried out of it. Its upper
//! directory is not mapped: what a container writes has the container's ids on the host.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::Path,
};

use gantry_domain::Mount;
use nix::{
    errno::Errno,
    fcntl::{OFlag, open},
    libc,
    sched::{CloneFlags, clone},
    sys::{
        stat::Mode,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, pipe2},
};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::{
    MountProblem, attach, in_private, mount_all,
    options::Options,
    overlay::{overlay_layers, unescaped},
    place::{A_DIRECTORY, Place},
};

/// See mount_setattr(2); libc has it for some systems only.
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const AT_RECURSIVE: libc::c_int = 0x8000;

/// The kernel's bound, see user_namespaces(7).
const MOST_RANGES: usize = 340;

/// The stack of a process that makes a few system calls.
const STACK: usize = 64 << 10;

/// What ids of files are as which other ids.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IdMaps {
    uids: String,
    gids: String,
}

impl IdMaps {
    /// Of the values of the two options, ranges as `0:100000:65536`, with commas between: on the disk, on the host, and their
    /// number.
    pub(super) fn parse(uids: &str, gids: &str) -> Result<Self, MountProblem> {
        Ok(Self { uids: lines("uidmap", uids)?, gids: lines("gidmap", gids)? })
    }

    #[expect(unsafe_code, reason = "only a process can make a user namespace")]
    /// A user namespace with these ids. No process is in it when this returns.
    fn namespace(&self) -> Result<OwnedFd, MountProblem> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC).map_err(MountProblem::of("pipe"))?;
        let pipe = reading.as_raw_fd().cast_unsigned();
        let wait = Box::new(|| {
            // Without an exec it has copies of all that the server has open: of the other end, of other threads' pipes, whose
            // readers would wait for this process, of locks, and of files that others wait for the end of.
            if close_all_but(pipe).is_ok() {
                let _ = nix::unistd::read(&reading, &mut [0]);
            }
            0
        });
        let mut stack = vec![0; STACK];
        // SAFETY: the process has a copy of the memory, and does nothing but the system calls above and _exit(2), whatever other
        // threads held at that time. Without a signal at its end nobody else waits for it.
        let cloned = unsafe { clone(wait, &mut stack, CloneFlags::CLONE_NEWUSER, None) };
        let pid = cloned.map_err(MountProblem::of("make a user namespace"))?;
        let _child = Child { pid, writing: Some(writing) };
        for (file, lines) in [("uid_map", &self.uids), ("gid_map", &self.gids)] {
            let written = fs::write(format!("/proc/{pid}/{file}"), lines);
            written.map_err(MountProblem::of("write the ids of a user namespace"))?;
        }
        let namespace = format!("/proc/{pid}/ns/user");
        open(&*namespace, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map_err(MountProblem::of("open a user namespace"))
    }
}

/// Closes all descriptors of this process but one. It allocates nothing.
#[expect(unsafe_code, reason = "neither nix nor rustix has close_range(2)")]
fn close_all_but(kept: u32) -> Result<(), Errno> {
    let below = kept.checked_sub(1).map(|last| (0, last));
    for (first, last) in below.into_iter().chain([(kept + 1, u32::MAX)]) {
        // SAFETY: the process that calls this uses none of them any more, nor drops anything that has one.
        Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    }
    Ok(())
}

/// A process that ends when the pipe does.
struct Child {
    pid: Pid,
    writing: Option<OwnedFd>,
}

impl Drop for Child {
    fn drop(&mut self) {
        self.writing = None;
        while waitpid(self.pid, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    }
}

/// A map as the kernel reads it.
fn lines(name: &str, map: &str) -> Result<String, MountProblem> {
    let line = |range: &str| {
        let ids: Option<Vec<u32>> = range.split(':').map(|id| id.parse().ok()).collect();
        match ids.as_deref() {
            Some(&[inside, outside, count]) if count > 0 => {
                Some(format!("{inside} {outside} {count}\n"))
            }
            _ => None,
        }
    };
    let ranges: Option<Vec<String>> = map.split(',').map(line).collect();
    let ranges = ranges.filter(|ranges| ranges.len() <= MOST_RANGES);
    ranges.map(|ranges| ranges.concat()).ok_or_else(|| {
        let form = format!("has to be at most {MOST_RANGES} of ID:HOST-ID:COUNT, with commas");
        MountProblem::Unsupported(format!("the option \"{name}={map}\", which {form},"))
    })
}

/// Mounts with the ids that the options say.
pub(super) fn attach_mapped(
    mount: &Mount,
    options: &Options,
    maps: &IdMaps,
    rootfs: &Path,
    place: &Place,
) -> Result<(), MountProblem> {
    let ids = maps.namespace()?;
    let tree = if options.is_bind() {
        let source = open(&*mount.source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
        let source = source.map_err(MountProblem::of("open the source"))?;
        mapped(&source, &ids, options.is_recursive())?
    } else if mount.kind == "overlay" {
        in_private(|| {
            for layer in lower_layers(&options.data)? {
                map_in_place(&unescaped(layer), &ids)?;
            }
            let place = Place::open(rootfs, &mount.target)?;
            attach(mount, options, &place)?;
            clone_tree(&place.covered_by()?.0, false)
        })??
    } else {
        let what = format!("an id-mapped mount of the type {:?}", mount.kind);
        return Err(MountProblem::Unsupported(what));
    };
    put(&tree, &place.0)
}

/// The layers of an overlay that has to have all of them in one option: with others the kernel would have some whose ids are not
/// mapped.
fn lower_layers(options: &[String]) -> Result<Vec<&str>, MountProblem> {
    let lower: Vec<_> = options.iter().filter(|option| option.starts_with("lowerdir")).collect();
    match lower[..] {
        [] => Ok(Vec::new()),
        [one] if let Some(layers) = one.strip_prefix("lowerdir=") => Ok(overlay_layers(layers)),
        _ => {
            let what = "an id-mapped overlay with other lower layers than those of one lowerdir=";
            Err(MountProblem::Unsupported(what.to_owned()))
        }
    }
}

/// Has the files of a layer other owners for whoever looks at its path in this mount namespace.
fn map_in_place(layer: &str, ids: &OwnedFd) -> Result<(), MountProblem> {
    let flags = A_DIRECTORY & !OFlag::O_NOFOLLOW;
    let there = open(layer, flags, Mode::empty()).map_err(MountProblem::of("open a layer"))?;
    put(&mapped(&there, ids, false)?, &there)
}

#[expect(unsafe_code, reason = "neither nix nor rustix has mount_setattr(2)")]
fn mapped(what: &OwnedFd, ids: &OwnedFd, is_recursive: bool) -> Result<OwnedFd, MountProblem> {
    /// `struct mount_attr` of the kernel.
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    let tree = clone_tree(what, is_recursive)?;
    let flags = libc::AT_EMPTY_PATH | if is_recursive { AT_RECURSIVE } else { 0 };
    let attributes = Attributes {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: libc::MS_PRIVATE,
        user_namespace: u64::try_from(ids.as_raw_fd()).unwrap_or_default(),
    };
    // SAFETY: the path and the attributes live until the call returns, and the size is theirs.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    let problem = "map ids (the file system has to support id-mapped mounts)";
    Errno::result(done).map_err(MountProblem::of(problem))?;
    Ok(tree)
}

/// A mount of what is seen at a descriptor, which is nowhere yet.
fn clone_tree(what: &impl AsFd, is_recursive: bool) -> Result<OwnedFd, MountProblem> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, is_recursive);
    open_tree(what, "", flags).map_err(MountProblem::of("open_tree"))
}

fn put(tree: &OwnedFd, place: &OwnedFd) -> Result<(), MountProblem> {
    let by_descriptors =
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", place, "", by_descriptors).map_err(MountProblem::of("move_mount"))
}

/// Whether overlays with mapped ids can be made of directories here: the kernel and the file system have to support that. Works in
/// an empty directory of the caller's.
///
/// # Errors
/// What cannot be made.
pub fn check_id_maps(scratch: &Path) -> Result<(), MountProblem> {
    let [lower, upper, work, root] = ["lower", "upper", "work", "root"].map(|n| scratch.join(n));
    for directory in [&lower, &upper, &work, &root] {
        fs::create_dir(directory).map_err(MountProblem::of("make a directory"))?;
    }
    let option = |key: &str, path: &Path| format!("{key}={}", path.display());
    let mount = Mount {
        kind: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options: vec![
            "uidmap=0:1:1".to_owned(),
            "gidmap=0:1:1".to_owned(),
            option("workdir", &work),
            option("upperdir", &upper),
            option("lowerdir", &lower),
        ],
    };
    in_private(|| mount_all(&[mount], &root).map_err(|error| error.problem))?
}
