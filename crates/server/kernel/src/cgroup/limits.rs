//! Limits that `update` of runtimes does not set: of single block devices, of tasks without a group, and of
//! kernel memory. gantryd writes them to their files.

use std::path::{Path, PathBuf};

use super::{
    Cgroup, CgroupError, Dir,
    file::{Reader, write},
};

/// Limits that `Runtimes::update` does not set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirectLimits {
    /// Bytes.
    pub kernel_memory: Option<u64>,
    /// Bytes.
    pub kernel_tcp_memory: Option<u64>,
    /// 10 to 1000.
    pub leaf_weight: Option<u16>,
    /// Realtime scheduling is limited, which runtimes do in v1 and silently ignore in v2.
    pub realtime: bool,
    /// Of single block devices.
    pub devices: Vec<DeviceLimit>,
}

/// A limit of one block device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceLimit {
    /// Of the device's number.
    pub major: i64,
    /// Of the device's number.
    pub minor: i64,
    /// What is limited.
    pub kind: DeviceLimitKind,
    /// In the unit of the kind.
    pub value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
/// What of a block device is limited.
pub enum DeviceLimitKind {
    /// 10 to 1000.
    Weight,
    /// 10 to 1000, against the cgroups below.
    LeafWeight,
    /// Bytes a second.
    ReadBps,
    /// Bytes a second.
    WriteBps,
    /// Operations a second.
    ReadIops,
    /// Operations a second.
    WriteIops,
}

/// A limit that could not be set.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LimitError {
    #[error("{limit} is not supported by this kernel: there is no {}", .file.display())]
    Unsupported { limit: &'static str, file: PathBuf },
    #[error("{limit} is ignored by this kernel: {} stays {is}", .file.display())]
    Ignored { limit: &'static str, file: PathBuf, is: u64 },
    #[error("{limit} does not exist in cgroup v2")]
    NotInV2 { limit: &'static str },
    #[error("{limit} cannot be set: {cause}")]
    Refused { limit: &'static str, cause: CgroupError },
}

impl DirectLimits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl DeviceLimitKind {
    fn name(self) -> &'static str {
        match self {
            Self::Weight => "blkioWeightDevice",
            Self::LeafWeight => "blkioWeightDevice.leafWeight",
            Self::ReadBps => "blkioThrottleReadBpsDevice",
            Self::WriteBps => "blkioThrottleWriteBpsDevice",
            Self::ReadIops => "blkioThrottleReadIopsDevice",
            Self::WriteIops => "blkioThrottleWriteIopsDevice",
        }
    }

    /// Files of v1 (Documentation/admin-guide/cgroup-v1/blkio-controller.rst); the weights' belong
    /// to an IO scheduler, of which kernels have had several.
    fn v1_files(self) -> &'static [&'static str] {
        match self {
            Self::Weight => &["blkio.weight_device", "blkio.bfq.weight_device"],
            Self::LeafWeight => &["blkio.leaf_weight_device"],
            Self::ReadBps => &["blkio.throttle.read_bps_device"],
            Self::WriteBps => &["blkio.throttle.write_bps_device"],
            Self::ReadIops => &["blkio.throttle.read_iops_device"],
            Self::WriteIops => &["blkio.throttle.write_iops_device"],
        }
    }

    /// Keys of io.max (Documentation/admin-guide/cgroup-v2.rst).
    fn v2_key(self) -> Option<&'static str> {
        match self {
            Self::Weight | Self::LeafWeight => None,
            Self::ReadBps => Some("rbps"),
            Self::WriteBps => Some("wbps"),
            Self::ReadIops => Some("riops"),
            Self::WriteIops => Some("wiops"),
        }
    }
}

impl Cgroup {
    /// Sets the limits, in order, up to the first that cannot be set.
    pub fn limit(&self, limits: &DirectLimits) -> Result<(), LimitError> {
        if limits.realtime && matches!(self.controller("cpu"), Some(Dir::V2(_))) {
            return Err(LimitError::NotInV2 { limit: "cpuRealtimePeriod or cpuRealtimeRuntime" });
        }
        if let Some(bytes) = limits.kernel_memory {
            self.limit_v1("memory", "kernelMemoryLimit", "memory.kmem.limit_in_bytes", bytes)?;
        }
        if let Some(bytes) = limits.kernel_tcp_memory {
            let file = "memory.kmem.tcp.limit_in_bytes";
            self.limit_v1("memory", "kernelTCPMemoryLimit", file, bytes)?;
        }
        if let Some(weight) = limits.leaf_weight {
            let file = "blkio.leaf_weight";
            self.limit_v1("blkio", "blkioLeafWeight", file, weight.into())?;
        }
        limits.devices.iter().try_for_each(|device| self.limit_device(device))
    }

    /// A limit that only v1 has.
    fn limit_v1(
        &self,
        controller: &'static str,
        limit: &'static str,
        file: &'static str,
        value: u64,
    ) -> Result<(), LimitError> {
        match self.controller(controller) {
            Some(Dir::V1(dir)) => {
                let file = dir.join(file);
                set(limit, std::slice::from_ref(&file), &value.to_string())?;
                check(limit, file, value)
            }
            Some(Dir::V2(_)) => Err(LimitError::NotInV2 { limit }),
            None => Err(no_controller(limit, controller)),
        }
    }

    fn limit_device(&self, device: &DeviceLimit) -> Result<(), LimitError> {
        let DeviceLimit { major, minor, kind, value } = device;
        let limit = kind.name();
        let id = format!("{major}:{minor}");
        match (self.controller("blkio"), kind.v2_key()) {
            (Some(Dir::V1(dir)), _) => {
                let files: Vec<PathBuf> =
                    kind.v1_files().iter().map(|file| dir.join(file)).collect();
                set(limit, &files, &format!("{id} {value}"))
            }
            (Some(Dir::V2(dir)), Some(key)) => {
                set(limit, &[dir.join("io.max")], &format!("{id} {key}={value}"))
            }
            (Some(Dir::V2(dir)), None) if *kind == DeviceLimitKind::Weight => {
                let files = [dir.join("io.bfq.weight"), dir.join("io.weight")];
                set(limit, &files, &format!("{id} {value}"))
            }
            (Some(Dir::V2(_)), None) => Err(LimitError::NotInV2 { limit }),
            (None, _) => Err(no_controller(limit, "blkio")),
        }
    }
}

fn no_controller(limit: &'static str, controller: &'static str) -> LimitError {
    LimitError::Refused { limit, cause: CgroupError::NoController(controller) }
}

/// Checks that a limit took effect: some kernels ignore one silently; others round it to pages.
fn check(limit: &'static str, file: PathBuf, value: u64) -> Result<(), LimitError> {
    let is = Reader::default().number(&file);
    match is.map_err(|cause| LimitError::Refused { limit, cause })? {
        Some(is) if is.abs_diff(value) >= LARGEST_PAGE => {
            Err(LimitError::Ignored { limit, file, is })
        }
        _ => Ok(()),
    }
}

/// Of all processors that Linux runs on.
const LARGEST_PAGE: u64 = 64 * 1024;

/// Writes to the first of the files that this kernel has.
fn set(limit: &'static str, files: &[PathBuf], value: &str) -> Result<(), LimitError> {
    let Some(file) = files.iter().find(|file| file.exists()) else {
        let file = files.first().map_or(Path::new(""), PathBuf::as_path).to_owned();
        return Err(LimitError::Unsupported { limit, file });
    };
    write(file, value).map_err(|cause| LimitError::Refused { limit, cause })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;

    fn throttle(kind: DeviceLimitKind) -> DirectLimits {
        let device = DeviceLimit { major: 8, minor: 16, kind, value: 1000 };
        DirectLimits { devices: vec![device], ..DirectLimits::default() }
    }

    #[test]
    fn v1_has_a_file_for_each_limit() {
        let dir = tempfile::tempdir().unwrap();
        let v1 = BTreeMap::from([("blkio".to_owned(), dir.path().to_owned())]);
        let cgroup = Cgroup { v1, unified: None };
        let file = dir.path().join("blkio.throttle.read_bps_device");
        fs::write(&file, "").unwrap();
        cgroup.limit(&throttle(DeviceLimitKind::ReadBps)).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "8:16 1000");

        let error = cgroup.limit(&throttle(DeviceLimitKind::Weight)).unwrap_err();
        assert!(error.to_string().contains("blkio.weight_device"), "{error}");
    }

    #[test]
    fn v2_has_keys_in_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup { v1: BTreeMap::new(), unified: Some(dir.path().to_owned()) };
        fs::write(dir.path().join("io.max"), "").unwrap();
        cgroup.limit(&throttle(DeviceLimitKind::WriteIops)).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("io.max")).unwrap(), "8:16 wiops=1000");

        let kernel = DirectLimits { kernel_memory: Some(1), ..DirectLimits::default() };
        assert!(matches!(cgroup.limit(&kernel), Err(LimitError::NotInV2 { .. })));
    }
}
