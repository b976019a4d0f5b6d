//! `UpdateResource` as the spec's `linux.resources`: zero and empty mean "leave as it is".

use gantry_api::types::{ThrottleDevice, UpdateResource, WeightDevice};
use oci_spec::{
    OciSpecError,
    runtime::{
        LinuxBlockIo, LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxMemory,
        LinuxMemoryBuilder, LinuxPidsBuilder, LinuxResources, LinuxResourcesBuilder,
        LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
        LinuxWeightDeviceBuilder,
    },
};

use super::status::BadField;

/// The new limits; `None` if every one is to stay as it is.
pub(super) fn parse(update: &UpdateResource) -> Result<Option<LinuxResources>, BadField> {
    if *update == UpdateResource::default() {
        return Ok(None);
    }
    let mut resources = LinuxResourcesBuilder::default();
    if let Some(cpu) = cpu(update)? {
        resources = resources.cpu(cpu);
    }
    if let Some(memory) = memory(update)? {
        resources = resources.memory(memory);
    }
    if let Some(block_io) = block_io(update)? {
        resources = resources.block_io(block_io);
    }
    if let Some(limit) = signed("resources.pidsLimit", update.pids_limit)? {
        resources = resources.pids(built(LinuxPidsBuilder::default().limit(limit).build())?);
    }
    built(resources.build()).map(Some)
}

fn cpu(update: &UpdateResource) -> Result<Option<LinuxCpu>, BadField> {
    let mut cpu = LinuxCpuBuilder::default();
    let mut given = false;
    for (value, set) in [
        (update.cpu_shares, LinuxCpuBuilder::shares as fn(LinuxCpuBuilder, u64) -> LinuxCpuBuilder),
        (update.cpu_period, LinuxCpuBuilder::period),
        (update.cpu_realtime_period, LinuxCpuBuilder::realtime_period),
    ] {
        if value > 0 {
            cpu = set(cpu, value);
            given = true;
        }
    }
    if let Some(quota) = signed("resources.cpuQuota", update.cpu_quota)? {
        cpu = cpu.quota(quota);
        given = true;
    }
    if update.cpu_realtime_runtime != 0 {
        cpu = cpu.realtime_runtime(update.cpu_realtime_runtime);
        given = true;
    }
    if !update.cpuset_cpus.is_empty() {
        cpu = cpu.cpus(&update.cpuset_cpus);
        given = true;
    }
    if !update.cpuset_mems.is_empty() {
        cpu = cpu.mems(&update.cpuset_mems);
        given = true;
    }
    if given { built(cpu.build()).map(Some) } else { Ok(None) }
}

fn memory(update: &UpdateResource) -> Result<Option<LinuxMemory>, BadField> {
    type Set = fn(LinuxMemoryBuilder, i64) -> LinuxMemoryBuilder;
    let mut memory = LinuxMemoryBuilder::default();
    let mut given = false;
    for (field, value, set) in [
        ("resources.memoryLimit", update.memory_limit, LinuxMemoryBuilder::limit as Set),
        ("resources.memorySwap", update.memory_swap, LinuxMemoryBuilder::swap),
        ("resources.memoryReservation", update.memory_reservation, LinuxMemoryBuilder::reservation),
        ("resources.kernelMemoryLimit", update.kernel_memory_limit, LinuxMemoryBuilder::kernel),
        (
            "resources.kernelTCPMemoryLimit",
            update.kernel_tcp_memory_limit,
            LinuxMemoryBuilder::kernel_tcp,
        ),
    ] {
        if let Some(value) = signed(field, value)? {
            memory = set(memory, value);
            given = true;
        }
    }
    if given { built(memory.build()).map(Some) } else { Ok(None) }
}

fn block_io(update: &UpdateResource) -> Result<Option<LinuxBlockIo>, BadField> {
    type Set = fn(LinuxBlockIoBuilder, Vec<LinuxThrottleDevice>) -> LinuxBlockIoBuilder;
    let mut block_io = LinuxBlockIoBuilder::default();
    let mut given = false;
    if update.blkio_weight > 0 {
        block_io = block_io.weight(weight("resources.blkioWeight", update.blkio_weight)?);
        given = true;
    }
    if update.blkio_leaf_weight > 0 {
        let leaf = weight("resources.blkioLeafWeight", update.blkio_leaf_weight)?;
        block_io = block_io.leaf_weight(leaf);
        given = true;
    }
    if !update.blkio_weight_device.is_empty() {
        let devices = update.blkio_weight_device.iter().map(weight_device);
        block_io = block_io.weight_device(devices.collect::<Result<Vec<_>, _>>()?);
        given = true;
    }
    for (field, devices, set) in [
        (
            "resources.blkioThrottleReadBpsDevice",
            &update.blkio_throttle_read_bps_device,
            LinuxBlockIoBuilder::throttle_read_bps_device::<Vec<LinuxThrottleDevice>> as Set,
        ),
        (
            "resources.blkioThrottleWriteBpsDevice",
            &update.blkio_throttle_write_bps_device,
            LinuxBlockIoBuilder::throttle_write_bps_device::<Vec<LinuxThrottleDevice>>,
        ),
        (
            "resources.blkioThrottleReadIopsDevice",
            &update.blkio_throttle_read_iops_device,
            LinuxBlockIoBuilder::throttle_read_iops_device::<Vec<LinuxThrottleDevice>>,
        ),
        (
            "resources.blkioThrottleWriteIopsDevice",
            &update.blkio_throttle_write_iops_device,
            LinuxBlockIoBuilder::throttle_write_iops_device::<Vec<LinuxThrottleDevice>>,
        ),
    ] {
        if !devices.is_empty() {
            let devices = devices.iter().map(|device| throttle_device(field, device));
            block_io = set(block_io, devices.collect::<Result<Vec<_>, _>>()?);
            given = true;
        }
    }
    if given { built(block_io.build()).map(Some) } else { Ok(None) }
}

fn weight_device(device: &WeightDevice) -> Result<LinuxWeightDevice, BadField> {
    const FIELD: &str = "resources.blkioWeightDevice";
    let id = device.blk_io_device.ok_or_else(|| BadField::new(FIELD, "must name a device"))?;
    let mut built_device = LinuxWeightDeviceBuilder::default().major(id.major).minor(id.minor);
    if device.weight > 0 {
        built_device = built_device.weight(weight(FIELD, device.weight.into())?);
    }
    if device.leaf_weight > 0 {
        built_device = built_device.leaf_weight(weight(FIELD, device.leaf_weight.into())?);
    }
    built(built_device.build())
}

fn throttle_device(
    field: &'static str,
    device: &ThrottleDevice,
) -> Result<LinuxThrottleDevice, BadField> {
    let id = device.blk_io_device.ok_or_else(|| BadField::new(field, "must name a device"))?;
    let throttle = LinuxThrottleDeviceBuilder::default().major(id.major).minor(id.minor);
    built(throttle.rate(device.rate).build())
}

/// Weights of the block layer are 10 to 1000.
fn weight(field: &'static str, weight: u64) -> Result<u16, BadField> {
    match u16::try_from(weight) {
        Ok(weight @ 10..=1000) => Ok(weight),
        _ => Err(BadField::new(field, format!("must be 10 to 1000, is {weight}"))),
    }
}

/// A limit that the kernel keeps as a signed number. The API's is unsigned, and callers say "no
/// limit" with what is -1 there.
fn signed(field: &'static str, value: u64) -> Result<Option<i64>, BadField> {
    match value {
        0 => Ok(None),
        u64::MAX => Ok(Some(-1)),
        _ => i64::try_from(value)
            .map(Some)
            .map_err(|_| BadField::new(field, format!("is too large: {value}"))),
    }
}

/// The builders only fail for fields that must be given, and all are.
fn built<T>(result: Result<T, OciSpecError>) -> Result<T, BadField> {
    result.map_err(|error| BadField::new("resources", error.to_string()))
}
