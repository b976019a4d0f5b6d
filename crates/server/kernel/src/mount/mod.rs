//! Mounts a root file system from a list as snapshotters give, and unmounts everything from a place.
//!
//! Every function can wait for a file system, for ever if a server of one does not answer: none of
//! them belongs on a thread that others need.

mod error;
mod id_map;
mod options;
mod overlay;
mod place;
mod private;
mod table;
#[cfg(test)]
mod tests;
mod unmount;

use std::path::Path;

pub use error::{MountError, MountName, MountProblem, UnmountError};
use gantry_domain::Mount;
pub use id_map::check_id_maps;
use nix::{
    mount::{MsFlags, mount},
    unistd::{SysconfVar, sysconf},
};
use options::Options;
pub use overlay::{overlay_layers, unescaped};
use place::{Place, path_of};
pub use private::in_private;
pub use unmount::unmount_all;

/// Mounts one after the other on a directory, or below it where a mount has a target. The directory may
/// not be a symbolic link, and a target has to be there; links in it lead to nowhere outside.
///
/// Options are those of mount(8) that a kernel understands. `X-containerd.` ones are ignored; `loop`
/// and types with a program of their own, as `fuse.`, are refused. `uidmap=` and `gidmap=`, which a bind or an overlay can have
/// together, give files other owners than on the disk; of an overlay those of its lower layers. A bind with
/// `ro`, `nosuid` and the like gets them, and not what is mounted below its source. The options of an
/// overlay may exceed a page: the names of its layers are shortened by the directory that they have in
/// common, or given to the kernel one by one (Linux 6.5).
///
/// # Errors
/// If one cannot be mounted. Those before it were unmounted, or the error names them.
pub fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<(), MountError> {
    let mut covered: Vec<(MountName, Place)> = Vec::new();
    for (number, mount) in (1..).zip(mounts) {
        let name = MountName::new(number, mount);
        match mount_one(mount, rootfs) {
            Ok(Some(place)) => covered.push((name, place)),
            Ok(None) => {}
            Err(problem) => {
                let left = covered.into_iter().rev().filter(|(_, place)| place.uncover().is_err());
                let left = left.map(|(name, _)| name).collect();
                return Err(MountError { mount: Box::new(name), problem, left });
            }
        }
    }
    Ok(())
}

/// Returns the place that was mounted on; `None` for a remount. After an error nothing is mounted, unless the error
/// says so.
fn mount_one(mount: &Mount, rootfs: &Path) -> Result<Option<Place>, MountProblem> {
    let options = Options::parse(mount)?;
    let place = Place::open(rootfs, &mount.target)?;
    if options.is_remount() {
        classic(mount, &options, &place)?;
        propagate(&options, &place)?;
        return Ok(None);
    }
    match options.id_maps()? {
        None => attach(mount, &options, &place)?,
        Some(maps) => id_map::attach_mapped(mount, &options, &maps, rootfs, &place)?,
    }
    let refined = refine(&options, &place);
    if let Err(problem) = refined {
        return Err(match place.uncover() {
            Ok(()) => problem,
            Err(cause) => MountProblem::Left { problem: Box::new(problem), cause: cause.into() },
        });
    }
    Ok(Some(place))
}

fn attach(mount: &Mount, options: &Options, place: &Place) -> Result<(), MountProblem> {
    let too_long = match classic(mount, options, place) {
        Err(too_long @ MountProblem::TooLong { .. }) => too_long,
        other => return other,
    };
    if mount.kind != "overlay" {
        return Err(too_long);
    }
    match overlay::shortened(&options.data) {
        Some((directory, data)) if data.len() <= longest_data() => {
            overlay::mount_in(&directory, &mount.source, place, options.flags, &data)
        }
        _ => overlay::mount_by_parameters(&mount.source, place, options),
    }
}

/// mount(2).
fn classic(what: &Mount, options: &Options, place: &Place) -> Result<(), MountProblem> {
    let data = options.data.join(",");
    let most = longest_data();
    if data.len() > most {
        return Err(MountProblem::TooLong { length: data.len(), most });
    }
    let kind = Some(&*what.kind);
    mount(Some(&*what.source), &*path_of(&place.0), kind, options.flags, Some(&*data))
        .map_err(MountProblem::of("mount"))
}

/// One page, with a zero at the end. The kernel silently cuts off more.
fn longest_data() -> usize {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| usize::try_from(page).ok()).unwrap_or(4096) - 1
}

/// Applies what takes further system calls after the mount.
fn refine(options: &Options, place: &Place) -> Result<(), MountProblem> {
    if !options.is_bind() && options.propagation.is_empty() {
        return Ok(());
    }
    let root = place.covered_by()?;
    if options.is_bind()
        && let Some(flags) = options.of_a_bind(root.flags()?)
    {
        let remount = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags;
        root.change("remount with the options", remount)?;
    }
    propagate(options, &root)
}

fn propagate(options: &Options, root: &Place) -> Result<(), MountProblem> {
    options.propagation.iter().try_for_each(|&flags| root.change("set the propagation", flags))
}
