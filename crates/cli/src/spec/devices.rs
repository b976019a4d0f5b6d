//! Devices of the host that a container has.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use gantry_client::oci_spec::{
    OciSpecError,
    runtime::{
        LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder,
        LinuxDeviceType, Spec,
    },
};

use super::unusable;
use crate::failure::Failure;

/// Directories and files of /dev that a container has of its own (the runtime specification's "Default Devices"), or that
/// are mounts.
const OWN: [&str; 14] = [
    "console",
    "fd",
    "full",
    "hugepages",
    "mqueue",
    "null",
    "ptmx",
    "pts",
    "random",
    "shm",
    "tty",
    "urandom",
    "zero",
    ".udev",
];

/// How deep /dev is looked through, as it may have loops.
const DEEPEST: usize = 8;

/// One value of `--device`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeviceOption {
    source: PathBuf,
    destination: PathBuf,
    access: String,
}

impl FromStr for DeviceOption {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceOption, String> {
        let parts: Vec<_> = text.split(':').collect();
        let (source, destination, access) = match parts[..] {
            [source] => (source, source, "rwm"),
            [source, access] if is_access(access) => (source, source, access),
            [source, destination] => (source, destination, "rwm"),
            [source, destination, access] if is_access(access) => (source, destination, access),
            _ => return Err(format!("{text:?}: want DEVICE[:PATH][:rwm]")),
        };
        for path in [source, destination] {
            if !path.starts_with('/') {
                return Err(format!("{text:?}: {path:?} is no absolute path"));
            }
        }
        let access = access.to_owned();
        Ok(DeviceOption { source: source.into(), destination: destination.into(), access })
    }
}

fn is_access(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter))
}

/// Adds devices to a configuration, and the permission to use them.
pub(super) fn add(options: &[DeviceOption], spec: &mut Spec) -> Result<(), Failure> {
    let Some(linux) = spec.linux_mut() else { return Ok(()) };
    let mut devices = linux.devices().clone().unwrap_or_default();
    let mut rules = linux.resources().as_ref().and_then(|it| it.devices().clone());
    for option in options {
        let source = &option.source;
        let found =
            find(source).map_err(|e| Failure::io(format!("--device {}", source.display()), &e))?;
        let Some((kind, number)) = found else {
            return Err(Failure::new(format!("--device: {} is no device", source.display())));
        };
        devices.retain(|other| *other.path() != option.destination);
        devices.push(device(source, &option.destination, kind, number).map_err(|e| unusable(&e))?);
        let rule = rule(kind, number, &option.access).map_err(|e| unusable(&e))?;
        rules.get_or_insert_default().push(rule);
    }
    linux.set_devices(Some(devices).filter(|devices| !devices.is_empty()));
    if let Some(resources) = linux.resources_mut() {
        resources.set_devices(rules);
    }
    Ok(())
}

/// All devices of the host but those that every container has of its own.
pub(super) fn of_host() -> Result<Vec<LinuxDevice>, Failure> {
    let mut devices = Vec::new();
    collect(Path::new("/dev"), DEEPEST, &mut devices)
        .map_err(|e| Failure::io("--privileged: /dev", &e))?;
    Ok(devices)
}

/// What goes meanwhile, or may not be read, is none of its devices.
fn collect(dir: &Path, depth: usize, devices: &mut Vec<LinuxDevice>) -> io::Result<()> {
    use io::ErrorKind::{NotFound, PermissionDenied};
    let entries = match fs::read_dir(dir) {
        Err(e) if matches!(e.kind(), NotFound | PermissionDenied) => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        let path = entry.path();
        // Links are not followed: what they lead to is found itself.
        let kind = match entry.file_type() {
            Err(e) if e.kind() == NotFound => continue,
            kind => kind?,
        };
        if kind.is_dir() && depth > 0 {
            collect(&path, depth - 1, devices)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            // One that has just gone is none.
            if let Ok(Some((kind, number))) = find(&path)
                && let Ok(device) = device(&path, &path, kind, number)
            {
                devices.push(device);
            }
        }
    }
    Ok(())
}

/// The kind and the number of a device; none if the file is none.
fn find(path: &Path) -> io::Result<Option<(LinuxDeviceType, u64)>> {
    let meta = fs::metadata(path)?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    Ok(Some((kind, meta.rdev())))
}

fn device(
    source: &Path,
    destination: &Path,
    kind: LinuxDeviceType,
    number: u64,
) -> Result<LinuxDevice, OciSpecError> {
    let meta = fs::metadata(source)?;
    LinuxDeviceBuilder::default()
        .path(destination)
        .typ(kind)
        .major(i64::from(rustix::fs::major(number)))
        .minor(i64::from(rustix::fs::minor(number)))
        .file_mode(meta.mode() & 0o7777)
        .uid(meta.uid())
        .gid(meta.gid())
        .build()
}

fn rule(
    kind: LinuxDeviceType,
    number: u64,
    access: &str,
) -> Result<LinuxDeviceCgroup, OciSpecError> {
    LinuxDeviceCgroupBuilder::default()
        .allow(true)
        .typ(kind)
        .major(i64::from(rustix::fs::major(number)))
        .minor(i64::from(rustix::fs::minor(number)))
        .access(access)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_a_path_and_rights() {
        let parse = |text: &str| text.parse::<DeviceOption>();
        let device = |source: &str, destination: &str, access: &str| {
            let access = access.to_owned();
            Ok(DeviceOption { source: source.into(), destination: destination.into(), access })
        };
        assert_eq!(parse("/dev/kvm"), device("/dev/kvm", "/dev/kvm", "rwm"));
        assert_eq!(parse("/dev/kvm:r"), device("/dev/kvm", "/dev/kvm", "r"));
        assert_eq!(parse("/dev/a:/dev/b"), device("/dev/a", "/dev/b", "rwm"));
        assert_eq!(parse("/dev/a:/dev/b:rw"), device("/dev/a", "/dev/b", "rw"));
        for bad in ["", "kvm", "/dev/a:b", "/dev/a:/dev/b:x", "/a:/b:r:w"] {
            parse(bad).unwrap_err();
        }
    }

    #[test]
    fn what_every_container_has_is_not_the_hosts() {
        let devices = of_host().unwrap();
        assert!(devices.iter().all(|device| device.path() != Path::new("/dev/null")));
        let gone = Path::new("/dev/no/such");
        collect(gone, 0, &mut Vec::new()).unwrap();
    }
}
