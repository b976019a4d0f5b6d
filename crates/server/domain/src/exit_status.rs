//! How a process ended.

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// How a process ended. What the wire makes of it is for the API to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It called exit with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
    /// Nobody was there to see it.
    Unknown,
}

impl ExitStatus {
    /// From the status word of wait(2), which is also field 52 of /proc/pid/stat.
    pub fn from_wait_status(status: i32) -> Self {
        let [low, code, ..] = status.to_le_bytes();
        match low & 0x7f {
            0 => Self::Code(code),
            signal => Self::Signal(signal),
        }
    }
}

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// How it has ended.
    pub status: ExitStatus,
    /// When, by the shim's clock; if the shim did not report a time, when the server found it out.
    pub at: Timestamp,
}

impl From<gantry_shim_proto::WaitStatus> for ExitStatus {
    fn from(status: gantry_shim_proto::WaitStatus) -> Self {
        match status {
            gantry_shim_proto::WaitStatus::Code(code) => Self::Code(code),
            gantry_shim_proto::WaitStatus::Signal(signal) => Self::Signal(signal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_status_word() {
        assert_eq!(ExitStatus::from_wait_status(0), ExitStatus::Code(0));
        assert_eq!(ExitStatus::from_wait_status(42 << 8), ExitStatus::Code(42));
        assert_eq!(ExitStatus::from_wait_status(9), ExitStatus::Signal(9));
        // SIGSEGV with a core dump
        assert_eq!(ExitStatus::from_wait_status(0x80 | 11), ExitStatus::Signal(11));
    }
}
