//! Counters of the network interfaces in a process's network namespace.

use std::path::Path;

use crate::cgroup::{CgroupError, Reader};

/// What went through one interface since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// As it is called in the namespace.
    pub name: String,
    /// Received.
    pub rx_bytes: u64,
    /// Received.
    pub rx_packets: u64,
    /// Received, and faulty.
    pub rx_errors: u64,
    /// Received, and dropped.
    pub rx_dropped: u64,
    /// Sent.
    pub tx_bytes: u64,
    /// Sent.
    pub tx_packets: u64,
    /// Not sent for an error.
    pub tx_errors: u64,
    /// Dropped instead of sent.
    pub tx_dropped: u64,
}

/// All interfaces, the loopback included, where the process is. If it may have ended, look at its
/// pidfd afterwards: the pid may be another's by now.
pub fn interfaces(pid: u32) -> Result<Vec<Interface>, CgroupError> {
    let path = format!("/proc/{pid}/net/dev");
    let path = Path::new(&path);
    let mut reader = Reader::default();
    // Two lines of headings come first.
    let lines = reader.read(path)?.lines().skip(2);
    lines.map(|line| parse(line).ok_or_else(|| CgroupError::malformed(path, line))).collect()
}

/// "  eth0: bytes packets errs drop fifo frame compressed multicast", and the same for what was
/// sent, see proc_pid_net(5).
fn parse(line: &str) -> Option<Interface> {
    // A name may contain a colon, the counters do not.
    let (name, counters) = line.rsplit_once(':')?;
    let counters = counters.split_ascii_whitespace().map(|counter| counter.parse().ok());
    let counters: Vec<u64> = counters.collect::<Option<_>>()?;
    let &[rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, ref tx @ ..] = &counters[..]
    else {
        return None;
    };
    let &[tx_bytes, tx_packets, tx_errors, tx_dropped, ..] = tx else { return None };
    Some(Interface {
        name: name.trim_ascii_start().to_owned(),
        rx_bytes,
        rx_packets,
        rx_errors,
        rx_dropped,
        tx_bytes,
        tx_packets,
        tx_errors,
        tx_dropped,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line() {
        let line = "  eth0: 1296 16 1 2 3 4 5 6 20480 17 7 8 9 10 11 12";
        let expected = Interface {
            name: "eth0".to_owned(),
            rx_bytes: 1296,
            rx_packets: 16,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 20480,
            tx_packets: 17,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(parse(line), Some(expected));
        // Old kernels have no blank between the colon and a wide counter.
        assert_eq!(parse("br0:1:99999999999 1 1 1 1 1 1 1 2 2 2 2 2 2 2 2").unwrap().name, "br0:1");
        assert_eq!(parse("eth0: 1 2 3 4 5 6 7 8 9"), None);
        assert_eq!(parse("eth0: 1 2 3 4 5 6 7 8 9 x 1 1 1 1 1 1"), None);
    }

    #[test]
    fn our_own_namespace_has_a_loopback() {
        let interfaces = interfaces(std::process::id()).unwrap();
        assert!(interfaces.iter().any(|interface| interface.name == "lo"), "{interfaces:?}");
        let error = super::interfaces(u32::MAX).unwrap_err().to_string();
        assert!(error.contains("/proc/4294967295/net/dev"), "{error}");
    }
}
