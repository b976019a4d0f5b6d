//! UpdateContainer with resources: every limit reaches the kernel, and what is not given stays.

use std::fs;

use Runtime::{Crun, Runc};
use gantry_api::types::{
    BlockIoDevice, ThrottleDevice, UpdateContainerRequest, UpdateResource, WeightDevice,
};
use gantry_tests::{Container, Runtime, Server, cgroup, improves, skip, status::assert_error};
use rstest::rstest;
use serde_json::json;
use tonic::{Code, Status};

async fn start(runtime: Runtime) -> Option<Server> {
    if runtime == Crun
        && improves("the original updates what was not given too, which crun refuses")
    {
        return None;
    }
    Server::start(runtime).await
}

#[rstest]
#[tokio::test]
async fn update_sets_processor_limits(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let new = UpdateResource {
        cpu_shares: 512,
        cpu_period: 50_000,
        cpu_quota: 20_000,
        cpuset_cpus: "0".to_owned(),
        cpuset_mems: "0".to_owned(),
        ..<_>::default()
    };
    update(&container, new).await.unwrap();
    if cgroup::is_v2() {
        assert_eq!(value(&container, "cpu.max"), "20000 50000");
        // (shares - 2) * 9999 / 262142 + 1, as all runtimes convert it.
        assert_eq!(value(&container, "cpu.weight"), "20");
    } else {
        assert_eq!(value(&container, "cpu.shares"), "512");
        assert_eq!(value(&container, "cpu.cfs_period_us"), "50000");
        assert_eq!(value(&container, "cpu.cfs_quota_us"), "20000");
    }
    assert_eq!(value(&container, "cpuset.cpus"), "0");
    assert_eq!(value(&container, "cpuset.mems"), "0");
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn update_sets_memory_limits(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let new = UpdateResource {
        memory_limit: 64 << 20,
        memory_swap: 128 << 20,
        memory_reservation: 32 << 20,
        ..<_>::default()
    };
    update(&container, new).await.unwrap();
    let bytes = |file| value(&container, file).parse::<u64>().unwrap();
    if cgroup::is_v2() {
        assert_eq!(bytes("memory.max"), 64 << 20);
        assert_eq!(bytes("memory.swap.max"), 64 << 20, "memorySwap is both together");
        assert_eq!(bytes("memory.low"), 32 << 20);
    } else {
        assert_eq!(bytes("memory.limit_in_bytes"), 64 << 20);
        assert_eq!(bytes("memory.memsw.limit_in_bytes"), 128 << 20);
        assert_eq!(bytes("memory.soft_limit_in_bytes"), 32 << 20);
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn update_sets_the_limit_of_tasks(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    if improves("the original does not pass it on") {
        return;
    }
    let container = server.container("c").create().await.unwrap();
    update(&container, UpdateResource { pids_limit: 33, ..<_>::default() }).await.unwrap();
    assert_eq!(value(&container, "pids.max"), "33");
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn update_sets_limits_of_block_devices(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original passes no device on") {
        return;
    }
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let Some(device) = some_disk() else { return skip("there is no disk") };
    let (name, blk_i_o_device) = (format!("{}:{}", device.major, device.minor), Some(device));
    let limit = |rate| vec![ThrottleDevice { blk_io_device: blk_i_o_device, rate }];
    let new = UpdateResource {
        blkio_throttle_read_bps_device: limit(1 << 20),
        blkio_throttle_write_bps_device: limit(2 << 20),
        blkio_throttle_read_iops_device: limit(300),
        blkio_throttle_write_iops_device: limit(400),
        ..<_>::default()
    };
    update(&container, new).await.unwrap();
    if cgroup::is_v2() {
        let limits = value(&container, "io.max");
        assert_eq!(limits, format!("{name} rbps=1048576 wbps=2097152 riops=300 wiops=400"));
    } else {
        for (file, rate) in [
            ("read_bps", "1048576"),
            ("write_bps", "2097152"),
            ("read_iops", "300"),
            ("write_iops", "400"),
        ] {
            let limit = value(&container, &format!("blkio.throttle.{file}_device"));
            assert_eq!(limit, format!("{name} {rate}"), "{file}");
        }
    }
    container.init.kill().await;
    server.finish().await;
}

/// For each limit that a kernel may lack: either it is set afterwards, or the error says that it
/// cannot be.
#[rstest]
#[tokio::test]
async fn limits_that_the_kernel_lacks_are_reported(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("the original says nothing") {
        return;
    }
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let device = some_disk();
    let weights = vec![WeightDevice { blk_io_device: device, weight: 200, leaf_weight: 0 }];
    let leaf_weights = vec![WeightDevice { blk_io_device: device, weight: 0, leaf_weight: 300 }];
    let none = UpdateResource::default;
    let cases = [
        (UpdateResource { blkio_weight: 100, ..none() }, "weight", "100"),
        (UpdateResource { blkio_leaf_weight: 100, ..none() }, "leaf_weight", "100"),
        (UpdateResource { blkio_weight_device: weights, ..none() }, "weight", "200"),
        (UpdateResource { blkio_weight_device: leaf_weights, ..none() }, "leaf_weight", "300"),
        (UpdateResource { kernel_memory_limit: 32 << 20, ..none() }, "kmem.limit", "33554432"),
        (UpdateResource { kernel_tcp_memory_limit: 16 << 20, ..none() }, "kmem.tcp", "16777216"),
        (UpdateResource { cpu_realtime_period: 900_000, ..none() }, "cpu.rt_period", "900000"),
        (UpdateResource { cpu_realtime_runtime: 1000, ..none() }, "cpu.rt_runtime", "1000"),
    ];
    for (new, file, expected) in cases {
        let given = format!("{new:?}");
        match update(&container, new).await {
            Ok(()) => {
                let values = values(&container, file);
                assert!(values.iter().any(|v| v.contains(expected)), "{given}: {values:?}");
            }
            Err(error) => {
                let clear =
                    matches!(error.code(), Code::FailedPrecondition | Code::InvalidArgument);
                assert!(clear && error.message().len() > 20, "{given}: {error:?}");
            }
        }
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_is_not_given_stays(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").config(|config| {
        config["linux"]["resources"] = json!({
            "memory": { "limit": 64 << 20, "swap": 96 << 20, "reservation": 16 << 20 },
            "cpu": { "shares": 300, "quota": 30_000, "period": 100_000, "cpus": "0" },
            "pids": { "limit": 70 }
        });
    });
    let container = container.create().await.unwrap();
    let before = limits(&container);
    update(&container, UpdateResource::default()).await.unwrap();
    assert_eq!(limits(&container), before, "nothing was given");
    update(&container, UpdateResource { cpu_shares: 600, ..<_>::default() }).await.unwrap();
    let after = limits(&container);
    let changed: Vec<_> = before.iter().zip(&after).filter(|(old, new)| old != new).collect();
    let [(old, new)] = changed.as_slice() else { panic!("one has changed: {changed:?}") };
    assert!(old.starts_with("cpu.shares") || old.starts_with("cpu.weight"), "{old} {new}");
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn what_the_runtime_refuses_is_reported_with_its_message(
    #[values(Runc, Crun)] runtime: Runtime,
) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    let bad = UpdateResource { cpuset_cpus: "4000".to_owned(), ..<_>::default() };
    let error = update(&container, bad).await.unwrap_err();
    assert!(error.message().contains("cpuset"), "{error:?}");
    assert_eq!(container.state().await.unwrap().status, "running");
    container.init.kill().await;
    server.finish().await;
}

#[tokio::test]
async fn update_refuses_numbers_out_of_range() {
    if improves("the original passes anything on") {
        return;
    }
    let Some(server) = Server::start(Runc).await else { return };
    let container = server.container("c").create().await.unwrap();
    let none = UpdateResource::default;
    for (new, field) in [
        (UpdateResource { blkio_weight: 5, ..none() }, "resources.blkioWeight"),
        (UpdateResource { blkio_weight: 5000, ..none() }, "resources.blkioWeight"),
        (UpdateResource { memory_limit: 1 << 63, ..none() }, "resources.memoryLimit"),
    ] {
        assert_error(update(&container, new).await, Code::InvalidArgument, &[field]);
    }
    container.init.kill().await;
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn update_reaches_a_paused_container(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(server) = start(runtime).await else { return };
    let container = server.container("c").create().await.unwrap();
    container.pause().await;
    update(&container, UpdateResource { memory_limit: 64 << 20, ..<_>::default() }).await.unwrap();
    let file = if cgroup::is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(value(&container, file), (64 << 20).to_string());
    container.resume().await;
    container.init.kill().await;
    server.finish().await;
}

async fn update(container: &Container, resources: UpdateResource) -> Result<(), Status> {
    let resources = Some(resources);
    container.update(UpdateContainerRequest { resources, ..<_>::default() }).await
}

fn value(container: &Container, file: &str) -> String {
    cgroup::read(&container.cgroup, file).unwrap_or_else(|| panic!("no {file} to read"))
}

/// What all control files say whose name contains `name`.
fn values(container: &Container, name: &str) -> Vec<String> {
    let directories = cgroup::directories(&container.cgroup);
    let files = directories.iter().flat_map(|directory| fs::read_dir(directory).unwrap().flatten());
    let files = files.filter(|file| file.file_name().to_string_lossy().contains(name));
    files.filter_map(|file| fs::read_to_string(file.path()).ok()).collect()
}

/// All limits, as "file: value".
fn limits(container: &Container) -> Vec<String> {
    let files: &[&str] = if cgroup::is_v2() {
        &[
            "cpu.max",
            "cpu.weight",
            "cpuset.cpus",
            "memory.max",
            "memory.swap.max",
            "memory.low",
            "pids.max",
        ]
    } else {
        &[
            "cpu.shares",
            "cpu.cfs_period_us",
            "cpu.cfs_quota_us",
            "cpuset.cpus",
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.soft_limit_in_bytes",
            "pids.max",
        ]
    };
    files.iter().map(|file| format!("{file}: {}", value(container, file))).collect()
}

fn some_disk() -> Option<BlockIoDevice> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let numbers = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok());
    numbers
        .filter_map(|text| {
            let (major, minor) = text.trim().split_once(':')?;
            Some(BlockIoDevice { major: major.parse().ok()?, minor: minor.parse().ok()? })
        })
        .next()
}
