//! The shim's children: the runtime, the process, and what either left behind.

use std::{fs, io};

use gantry_shim_proto::WaitStatus;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

/// What [`reap`] found.
pub(crate) enum Reaped {
    /// This child ended.
    Child(Pid, WaitStatus),
    /// No child ended.
    None,
    /// There is no child.
    Childless,
}

/// Takes the status of one child that ended.
pub(crate) fn reap() -> Reaped {
    match wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Reaped::Child(pid, wait_status(status.as_raw())),
        Err(Errno::CHILD) => Reaped::Childless,
        Ok(None) | Err(_) => Reaped::None,
    }
}

/// A wait status as the kernel gives it, see wait(2).
pub(crate) fn wait_status(raw: i32) -> WaitStatus {
    let [low, code, ..] = raw.to_le_bytes();
    // Bit 7 says that a core was dumped.
    match low & 0x7f {
        0 => WaitStatus::Code(code),
        signal => WaitStatus::Signal(signal),
    }
}

/// Kills every child. Their own children become the shim's and are found by the next call. An error
/// if the children cannot be listed now.
pub(crate) fn kill_all() -> io::Result<()> {
    // Of the kernel's CONFIG_PROC_CHILDREN, see proc(5); exact here, since none is reaped meanwhile.
    let list = fs::read_to_string("/proc/thread-self/children")?;
    for pid in list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
        // A child that was not reaped keeps its pid. An error means that it is dead already.
        let _ = kill_process(pid, Signal::KILL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_status_of_codes_signals_and_core_dumps() {
        assert_eq!(wait_status(0), WaitStatus::Code(0));
        assert_eq!(wait_status(255 << 8), WaitStatus::Code(255));
        assert_eq!(wait_status(9), WaitStatus::Signal(9));
        assert_eq!(wait_status(11 | 0x80), WaitStatus::Signal(11));
        assert_eq!(wait_status(40), WaitStatus::Signal(40), "a real-time signal");
    }
}
