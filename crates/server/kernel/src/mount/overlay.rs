//! An overlay of more layers than mount(2) has room for: one page for all options.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    fcntl::{OFlag, open},
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::stat::Mode,
    unistd::chdir,
};
use rustix::mount as parameters;

use super::{
    MountProblem,
    options::{OF_A_MOUNT, Options},
    place::{Place, path_of},
};

/// The longest value of one parameter, see `fsconfig` in the kernel's fs/fsopen.c.
const LONGEST_VALUE: usize = 255;

const LOWER: &str = "lowerdir=";

/// The options with the layers' names shortened by the directory that all of them are in; `None` if
/// there is none but the root.
pub(super) fn shortened(data: &[String]) -> Option<(PathBuf, String)> {
    let lower = data.iter().find_map(|option| option.strip_prefix(LOWER))?;
    let layers = overlay_layers(lower);
    let parents = layers.iter().map(|layer| Path::new(layer).parent());
    let common = parents.reduce(|a, b| Some(common(a?, b?)))??;
    if common.parent().is_none() || !common.is_absolute() {
        return None;
    }
    let names: Option<Vec<&str>> =
        layers.iter().map(|layer| Path::new(layer).strip_prefix(common).ok()?.to_str()).collect();
    let names = names?.join(":");
    let options = data.iter().map(|option| match option.starts_with(LOWER) {
        true => format!("{LOWER}{names}"),
        false => option.clone(),
    });
    let options: Vec<String> = options.collect();
    Some((unescaped(common.to_str()?).into(), options.join(",")))
}

fn common<'a>(a: &'a Path, b: &Path) -> &'a Path {
    a.ancestors().find(|ancestor| b.starts_with(ancestor)).unwrap_or(Path::new(""))
}

/// Mounts with the layers' common directory as the working directory of a new thread, not of the server's threads.
pub(super) fn mount_in(
    directory: &Path,
    source: &str,
    place: &Place,
    flags: MsFlags,
    data: &str,
) -> Result<(), MountProblem> {
    let in_directory = || {
        unshare(CloneFlags::CLONE_FS).map_err(MountProblem::of("unshare"))?;
        chdir(directory).map_err(MountProblem::of("enter the directory of the layers"))?;
        mount(Some(source), &*path_of(&place.0), Some("overlay"), flags, Some(data))
            .map_err(MountProblem::of("mount"))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("mount".to_owned())
            .spawn_scoped(scope, in_directory)
            .map_err(MountProblem::of("start a thread"))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Passes the layers one after the other, which the kernel accepts since Linux 6.5.
pub(super) fn mount_by_parameters(
    source: &str,
    place: &Place,
    options: &Options,
) -> Result<(), MountProblem> {
    let context = parameters::fsopen("overlay", parameters::FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(MountProblem::of("fsopen"))?;
    let superblock = Superblock { context: &context };
    superblock.set("source", source)?;
    for (flag, name) in [
        (MsFlags::MS_RDONLY, "ro"),
        (MsFlags::MS_SYNCHRONOUS, "sync"),
        (MsFlags::MS_DIRSYNC, "dirsync"),
        (MsFlags::MS_MANDLOCK, "mand"),
    ] {
        if options.flags.contains(flag) {
            superblock.set_flag(name)?;
        }
    }
    for option in &options.data {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => {
                for layer in overlay_layers(layers) {
                    superblock.set("lowerdir+", &unescaped(layer))?;
                }
            }
            Some((key @ ("upperdir" | "workdir"), path)) => {
                superblock.set(key, &unescaped(path))?;
            }
            Some((key, value)) => superblock.set(key, value)?,
            None => superblock.set_flag(option)?,
        }
    }
    superblock.mount(place, options.flags)
}

/// A file system that is being configured.
struct Superblock<'a> {
    context: &'a OwnedFd,
}

impl Superblock<'_> {
    fn set_flag(&self, name: &str) -> Result<(), MountProblem> {
        parameters::fsconfig_set_flag(self.context, name)
            .map_err(|cause| self.problem("fsconfig of a flag", cause))
    }

    /// A path may be longer than a value: it is then named by a descriptor.
    fn set(&self, key: &str, value: &str) -> Result<(), MountProblem> {
        let (opened, named);
        let value = match value.starts_with('/') && value.len() > LONGEST_VALUE {
            true => {
                opened = open(value, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
                    .map_err(MountProblem::of("open a layer"))?;
                named = path_of(&opened);
                &*named
            }
            false => value,
        };
        let operation = match key {
            "lowerdir+" => "fsconfig of a lower layer (Linux 6.5)",
            _ => "fsconfig",
        };
        parameters::fsconfig_set_string(self.context, key, value)
            .map_err(|cause| self.problem(operation, cause))
    }

    fn mount(&self, place: &Place, flags: MsFlags) -> Result<(), MountProblem> {
        parameters::fsconfig_create(self.context)
            .map_err(|cause| self.problem("create the overlay", cause))?;
        let attributes = attributes(flags & OF_A_MOUNT);
        let cloexec = parameters::FsMountFlags::FSMOUNT_CLOEXEC;
        let mount = parameters::fsmount(self.context, cloexec, attributes)
            .map_err(|cause| self.problem("fsmount", cause))?;
        let by_descriptors = parameters::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH
            | parameters::MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        parameters::move_mount(&mount, "", &place.0, "", by_descriptors)
            .map_err(MountProblem::of("move_mount"))
    }

    /// An error with the kernel's messages, which are read from the descriptor one at a time.
    fn problem(&self, operation: &'static str, cause: rustix::io::Errno) -> MountProblem {
        let mut words = Vec::new();
        let mut message = [0; 512];
        while let Ok(length @ 1..) = rustix::io::read(self.context, &mut message) {
            words.push(String::from_utf8_lossy(&message[..length]).trim().to_owned());
        }
        match words.is_empty() {
            true => MountProblem::System { operation, cause: cause.into() },
            false => {
                MountProblem::Kernel { operation, cause: cause.into(), words: words.join("; ") }
            }
        }
    }
}

fn attributes(flags: MsFlags) -> parameters::MountAttrFlags {
    use rustix::mount::MountAttrFlags as Attributes;
    let known = [
        (MsFlags::MS_RDONLY, Attributes::MOUNT_ATTR_RDONLY),
        (MsFlags::MS_NOSUID, Attributes::MOUNT_ATTR_NOSUID),
        (MsFlags::MS_NODEV, Attributes::MOUNT_ATTR_NODEV),
        (MsFlags::MS_NOEXEC, Attributes::MOUNT_ATTR_NOEXEC),
        (MsFlags::MS_NODIRATIME, Attributes::MOUNT_ATTR_NODIRATIME),
    ];
    let mut attributes = Attributes::empty();
    for (flag, attribute) in known {
        attributes.set(attribute, flags.contains(flag));
    }
    // One of three; relatime is zero. As with mount(2), strictatime wins.
    attributes
        | if flags.contains(MsFlags::MS_STRICTATIME) {
            Attributes::MOUNT_ATTR_STRICTATIME
        } else if flags.contains(MsFlags::MS_NOATIME) {
            Attributes::MOUNT_ATTR_NOATIME
        } else {
            Attributes::MOUNT_ATTR_RELATIME
        }
}

/// The layers in an option `lowerdir=`, which are separated by colons, unless a backslash is before. Each is as it is
/// in the option, see [`unescaped`].
pub fn overlay_layers(layers: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut escaped) = (Vec::new(), 0, false);
    for (at, character) in layers.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ':' => {
                parts.push(&layers[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&layers[begin..]);
    parts
}

/// A path of an overlay's options without the backslashes that mount(2) requires before colons, commas and backslashes.
pub fn unescaped(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            other => plain.push(other),
        }
    }
    plain
}
