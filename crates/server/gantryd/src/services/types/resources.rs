//! `UpdateResource` as limits: zero and empty mean "leave as it is".

use gantry_api::types::{BlockIoDevice, UpdateResource};
use gantry_supervisor::NewLimits;
use gantry_supervisor::resources::{DeviceLimit, DeviceLimitKind, DirectLimits};
use oci_spec::{
    OciSpecError,
    runtime::{
        LinuxBlockIoBuilder, LinuxCpu, LinuxCpuBuilder, LinuxMemory, LinuxMemoryBuilder,
        LinuxPidsBuilder, LinuxResourcesBuilder,
    },
};

use crate::rpc::BadField;

/// The new limits; `None` if every one is to stay as it is.
pub(super) fn parse(update: &UpdateResource) -> Result<Option<NewLimits>, BadField> {
    if *update == UpdateResource::default() {
        return Ok(None);
    }
    Ok(Some(NewLimits { runtime: resources(update)?, direct: direct(update)? }))
}

/// The limits that runtimes set.
fn resources(update: &UpdateResource) -> Result<Option<String>, BadField> {
    let mut resources = LinuxResourcesBuilder::default();
    let mut given = false;
    if let Some(cpu) = cpu(update)? {
        resources = resources.cpu(cpu);
        given = true;
    }
    if let Some(memory) = memory(update)? {
        resources = resources.memory(memory);
        given = true;
    }
    if update.blkio_weight > 0 {
        let weight = weight("resources.blkioWeight", update.blkio_weight)?;
        let block_io = LinuxBlockIoBuilder::default().weight(weight).build();
        resources = resources.block_io(built(block_io)?);
        given = true;
    }
    if let Some(limit) = signed("resources.pidsLimit", update.pids_limit)? {
        resources = resources.pids(built(LinuxPidsBuilder::default().limit(limit).build())?);
        given = true;
    }
    if !given {
        return Ok(None);
    }
    let json = serde_json::to_string(&built(resources.build())?);
    json.map(Some).map_err(|error| BadField::new("resources", error.to_string()))
}

/// The limits that runtimes do not set.
fn direct(update: &UpdateResource) -> Result<DirectLimits, BadField> {
    let given = |value: u64| (value > 0).then_some(value);
    let leaf_weight = given(update.blkio_leaf_weight)
        .map(|value| weight("resources.blkioLeafWeight", value))
        .transpose()?;
    Ok(DirectLimits {
        kernel_memory: given(update.kernel_memory_limit),
        kernel_tcp_memory: given(update.kernel_tcp_memory_limit),
        leaf_weight,
        realtime: update.cpu_realtime_period > 0 || update.cpu_realtime_runtime != 0,
        devices: devices(update)?,
    })
}

fn devices(update: &UpdateResource) -> Result<Vec<DeviceLimit>, BadField> {
    use DeviceLimitKind::{LeafWeight, ReadBps, ReadIops, Weight, WriteBps, WriteIops};
    const WEIGHT: &str = "resources.blkioWeightDevice";
    let mut limits = Vec::new();
    for device in &update.blkio_weight_device {
        for (kind, value) in [(Weight, device.weight), (LeafWeight, device.leaf_weight)] {
            if value > 0 {
                let value = weight(WEIGHT, value.into())?.into();
                limits.push(device_limit(WEIGHT, device.blk_io_device, kind, value)?);
            }
        }
    }
    for (field, kind, devices) in [
        ("resources.blkioThrottleReadBpsDevice", ReadBps, &update.blkio_throttle_read_bps_device),
        (
            "resources.blkioThrottleWriteBpsDevice",
            WriteBps,
            &update.blkio_throttle_write_bps_device,
        ),
        (
            "resources.blkioThrottleReadIopsDevice",
            ReadIops,
            &update.blkio_throttle_read_iops_device,
        ),
        (
            "resources.blkioThrottleWriteIopsDevice",
            WriteIops,
            &update.blkio_throttle_write_iops_device,
        ),
    ] {
        for device in devices {
            limits.push(device_limit(field, device.blk_io_device, kind, device.rate)?);
        }
    }
    Ok(limits)
}

fn device_limit(
    field: &'static str,
    device: Option<BlockIoDevice>,
    kind: DeviceLimitKind,
    value: u64,
) -> Result<DeviceLimit, BadField> {
    let device = device.ok_or_else(|| BadField::new(field, "must name a device"))?;
    Ok(DeviceLimit { major: device.major, minor: device.minor, kind, value })
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
    ] {
        if let Some(value) = signed(field, value)? {
            memory = set(memory, value);
            given = true;
        }
    }
    if given { built(memory.build()).map(Some) } else { Ok(None) }
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
