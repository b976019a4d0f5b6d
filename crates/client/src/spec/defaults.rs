//! What every container gets and what none may see.

use oci_spec::runtime::Capability;

/// Docker's own (`DefaultPathEnv` in moby), for images that say nothing.
pub(super) const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Docker's default list (moby, `oci/caps/defaults.go`). Enough for a package manager and a web
/// server inside; none of them reaches out of the container.
pub(super) const CAPABILITIES: [Capability; 14] = [
    Capability::AuditWrite,
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Mknod,
    Capability::NetBindService,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setgid,
    Capability::Setpcap,
    Capability::Setuid,
    Capability::SysChroot,
];

/// Files of the kernel that say too much, or too much about other containers: docker's list (moby,
/// `oci/defaults.go`).
pub(super) const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Settings of the host that a container's root must not change: docker's list (the same file).
pub(super) const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Destination, type, options (comma-separated). The first four are the runtime specification's
/// "Default Filesystems" (config-linux.md); options and the rest are docker's, and `relatime` is
/// what `runc spec` writes. The group of terminals is 5, "tty" in every distribution.
pub(super) const MOUNTS: [(&str, &str, &str); 7] = [
    ("/proc", "proc", "nosuid,noexec,nodev"),
    ("/sys", "sysfs", "nosuid,noexec,nodev,ro"),
    ("/dev", "tmpfs", "nosuid,strictatime,mode=755,size=65536k"),
    ("/dev/pts", "devpts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("/dev/shm", "tmpfs", "nosuid,noexec,nodev,mode=1777,size=65536k"),
    ("/dev/mqueue", "mqueue", "nosuid,noexec,nodev"),
    ("/sys/fs/cgroup", "cgroup", "nosuid,noexec,nodev,relatime,ro"),
];
