//! The default seccomp filter: what programs need, without what changes or inspects the host, and what
//! capabilities are of no use without.
//!
//! The filter has the effect of containerd's (2.x, `contrib/seccomp`), so that a program that runs under
//! one runs under the other. Names are those of the kernel's system call tables, of all architectures:
//! runtimes skip the ones that an architecture does not have. Allowed to nobody are, among others:
//! kexec, swap, keyrings, io_uring and userfaultfd.

use std::collections::BTreeSet;

use oci_spec::{
    OciSpecError,
    runtime::{
        Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg,
        LinuxSeccompArgBuilder, LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscallBuilder,
    },
};

use super::defaults;

const FILES: &str = "access faccessat faccessat2 open openat openat2 creat close close_range read \
    readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2 lseek _llseek stat stat64 \
    fstat fstat64 fstatat64 newfstatat lstat lstat64 statx statfs statfs64 fstatfs fstatfs64 \
    truncate truncate64 ftruncate ftruncate64 fallocate rename renameat renameat2 link linkat \
    symlink symlinkat unlink unlinkat readlink readlinkat mkdir mkdirat rmdir mknod mknodat \
    getdents getdents64 chdir fchdir getcwd chmod fchmod fchmodat fchmodat2 chown chown32 \
    fchown fchown32 fchownat lchown lchown32 umask utime utimes utimensat utimensat_time64 \
    futimesat fcntl fcntl64 flock dup dup2 dup3 ioctl sync syncfs fsync fdatasync \
    sync_file_range sync_file_range2 arm_sync_file_range fadvise64 fadvise64_64 arm_fadvise64_64 \
    readahead sendfile sendfile64 splice tee vmsplice copy_file_range getxattr lgetxattr \
    fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr \
    listxattrat removexattr lremovexattr fremovexattr removexattrat inotify_init inotify_init1 \
    inotify_add_watch inotify_rm_watch fanotify_mark memfd_create memfd_secret cachestat statmount \
    listmount name_to_handle_at";

const IO: &str = "pipe pipe2 select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait \
    epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_gettime \
    timerfd_gettime64 timerfd_settime timerfd_settime64 io_setup io_destroy io_submit io_cancel \
    io_getevents io_pgetevents io_pgetevents_time64 ioprio_get ioprio_set";

const SOCKETS: &str = "socketpair socketcall bind connect listen accept accept4 \
    getsockname getpeername getsockopt setsockopt send sendto sendmsg sendmmsg recv recvfrom \
    recvmsg recvmmsg recvmmsg_time64 shutdown";

const MEMORY: &str = "brk mmap mmap2 munmap mremap mprotect msync madvise mincore \
    mlock mlock2 mlockall munlock munlockall remap_file_pages membarrier pkey_alloc pkey_free \
    pkey_mprotect process_mrelease map_shadow_stack mseal";

const PROCESSES: &str = "fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid \
    getppid gettid getpgid setpgid getpgrp getsid setsid set_tid_address set_robust_list \
    get_robust_list futex futex_time64 futex_wait futex_wake futex_requeue futex_waitv \
    get_thread_area set_thread_area arch_prctl prctl rseq seccomp ptrace process_vm_readv \
    process_vm_writev pidfd_open pidfd_send_signal landlock_create_ruleset \
    landlock_add_rule landlock_restrict_self lsm_get_self_attr lsm_set_self_attr lsm_list_modules \
    uretprobe swapcontext cacheflush set_tls breakpoint modify_ldt \
    riscv_flush_icache riscv_hwprobe s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr";

const SCHEDULING: &str = "sched_yield sched_getaffinity sched_setaffinity sched_getparam \
    sched_setparam sched_getscheduler sched_setscheduler sched_getattr sched_setattr \
    sched_get_priority_max sched_get_priority_min sched_rr_get_interval \
    sched_rr_get_interval_time64 getpriority setpriority getcpu";

const SIGNALS: &str = "kill tkill tgkill rt_sigaction sigprocmask rt_sigprocmask \
    rt_sigpending sigreturn rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_sigqueueinfo rt_tgsigqueueinfo sigaltstack pause alarm \
    restart_syscall";

const TIME: &str = "time gettimeofday clock_gettime clock_gettime64 clock_getres \
    clock_getres_time64 clock_adjtime clock_adjtime64 clock_nanosleep clock_nanosleep_time64 nanosleep times adjtimex getitimer \
    setitimer timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 \
    timer_settime timer_settime64";

const IDENTITY: &str = "getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 \
    getresuid getresuid32 getresgid getresgid32 getgroups getgroups32 setuid setuid32 setgid \
    setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32 setresgid setresgid32 \
    setgroups setgroups32 setfsuid setfsuid32 setfsgid setfsgid32 capget capset";

const SYSTEM: &str = "uname sysinfo getrlimit ugetrlimit setrlimit prlimit64 \
    getrusage getrandom";

const SYSTEM_V_IPC: &str = "ipc msgctl msgget msgrcv msgsnd semctl semget semop semtimedop \
    semtimedop_time64 shmat shmctl shmdt shmget mq_getsetattr mq_notify mq_open mq_timedreceive \
    mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink";

/// A capability, and calls that nobody else has a use for.
const BY_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::Bpf, "bpf"),
    (Capability::DacReadSearch, "open_by_handle_at"),
    (Capability::Perfmon, "perf_event_open"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount \
         mount_setattr move_mount open_tree perf_event_open quotactl quotactl_fd setdomainname \
         sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::Syslog, "syslog"),
];

/// Address families that reach out of the container's namespaces: the kernel's cryptography, and the host of a virtual
/// machine.
const AF_ALG: u64 = 38;
const AF_VSOCK: u64 = 40;

/// The flags of clone(2) that make namespaces: CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET}.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;

/// Values of personality(2): the default, 32 bits, and both with UNAME26; and asking what it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// See errno(3).
const ENOSYS: u32 = 38;

/// The filter of a container with the default capabilities. Everything that is not listed fails with
/// EPERM.
pub fn seccomp_profile() -> Result<LinuxSeccomp, OciSpecError> {
    seccomp_profile_for(|capability| defaults::CAPABILITIES.contains(&capability))
}

/// The filter of a container with other capabilities: each brings the calls that are of use with that
/// capability only, as containerd has them.
pub fn seccomp_profile_for(has: impl Fn(Capability) -> bool) -> Result<LinuxSeccomp, OciSpecError> {
    let always = [
        FILES,
        IO,
        SOCKETS,
        MEMORY,
        PROCESSES,
        SCHEDULING,
        SIGNALS,
        TIME,
        IDENTITY,
        SYSTEM,
        SYSTEM_V_IPC,
    ];
    let brought = BY_CAPABILITY.iter().filter(|(capability, _)| has(*capability));
    let names = always.into_iter().chain(brought.map(|(_, names)| *names));
    let names: BTreeSet<_> = names.flat_map(str::split_whitespace).collect();
    let mut rules = vec![allow(names).build()?];
    if !has(Capability::SysAdmin) {
        rules.push(allow(["clone"]).args([no_namespaces()?]).build()?);
        // Its flags are in memory, where no filter sees them: have libc fall back on clone.
        let absent = allow(["clone3"]).action(LinuxSeccompAction::ScmpActErrno).errno_ret(ENOSYS);
        rules.push(absent.build()?);
    }
    // A rule for each range: runtimes take several conditions on one argument as alternatives.
    for (operator, family) in [
        (LinuxSeccompOperator::ScmpCmpLt, AF_ALG),
        (LinuxSeccompOperator::ScmpCmpEq, AF_ALG + 1),
        (LinuxSeccompOperator::ScmpCmpGt, AF_VSOCK),
    ] {
        rules.push(allow(["socket"]).args([first_argument(operator, family)?]).build()?);
    }
    for personality in PERSONALITIES {
        let is_it = first_argument(LinuxSeccompOperator::ScmpCmpEq, personality)?;
        rules.push(allow(["personality"]).args([is_it]).build()?);
    }
    let mut profile = LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .syscalls(rules)
        .build()?;
    profile.set_architectures(architectures());
    Ok(profile)
}

fn allow<'a>(names: impl IntoIterator<Item = &'a str>) -> LinuxSyscallBuilder {
    LinuxSyscallBuilder::default()
        .names(names.into_iter().map(str::to_owned).collect::<Vec<_>>())
        .action(LinuxSeccompAction::ScmpActAllow)
}

fn first_argument(
    operator: LinuxSeccompOperator,
    value: u64,
) -> Result<LinuxSeccompArg, OciSpecError> {
    LinuxSeccompArgBuilder::default().index(0_usize).value(value).op(operator).build()
}

fn no_namespaces() -> Result<LinuxSeccompArg, OciSpecError> {
    LinuxSeccompArgBuilder::default()
        // s390 has the flags second.
        .index(usize::from(cfg!(target_arch = "s390x")))
        .value(NAMESPACE_FLAGS)
        .value_two(0_u64)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
}

/// Programs of the smaller word size run under the same filter. None is the machine's own architecture
/// only: runc knows no name for that.
fn architectures() -> Option<Vec<Arch>> {
    Some(match std::env::consts::ARCH {
        "x86_64" => vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        "s390x" => vec![Arch::ScmpArchS390x, Arch::ScmpArchS390],
        "riscv64" => vec![Arch::ScmpArchRiscv64],
        "loongarch64" => vec![Arch::ScmpArchLoongarch64],
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
