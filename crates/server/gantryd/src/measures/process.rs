//! The server as a process, see proc(5).

use std::{fs, time::Duration};

/// Of times in /proc in a second: USER_HZ, which is 100 on all machines that Rust has Linux for.
const TICK: Duration = Duration::from_millis(10);

/// What the kernel counts for the server's process. Zero where it cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MeasuredProcess {
    /// Resident, in bytes.
    pub(crate) memory: u64,
    /// Open file descriptors, and how many there may be.
    pub(crate) descriptors: u64,
    pub(crate) descriptor_limit: u64,
    pub(crate) threads: u64,
    /// Processor time in its own code, and in the kernel.
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
}

impl MeasuredProcess {
    pub(crate) fn read() -> Self {
        let text = |name: &str| fs::read_to_string(format!("/proc/self/{name}"));
        let mut process = parse(
            &text("status").unwrap_or_default(),
            &text("stat").unwrap_or_default(),
            &text("limits").unwrap_or_default(),
        );
        // Without the one that reads the directory.
        let open = fs::read_dir("/proc/self/fd").map_or(0, |open| open.count().saturating_sub(1));
        process.descriptors = open as u64;
        process
    }
}

fn parse(status: &str, stat: &str, limits: &str) -> MeasuredProcess {
    let line = |text: &str, name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name));
        rest.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    // The name, in parentheses, may hold anything. After it comes field 3.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = |number: usize| {
        let field = fields.split_whitespace().nth(number - 3);
        let ticks = field.and_then(|field| field.parse::<u32>().ok()).unwrap_or(0);
        TICK * ticks
    };
    MeasuredProcess {
        memory: line(status, "VmRSS:") * 1024,
        descriptors: 0,
        descriptor_limit: line(limits, "Max open files"),
        threads: line(status, "Threads:"),
        user_time: ticks(14),
        system_time: ticks(15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_measured() {
        let process = MeasuredProcess::read();
        assert!(process.memory > 100_000 && process.threads >= 1, "{process:?}");
        assert!((3..=process.descriptor_limit).contains(&process.descriptors), "{process:?}");
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4 0 0 0 0 30 70 0 0 20 0 1 0 5 0 0";
        let status = "Name:\ta\nVmRSS:\t   12 kB\nThreads:\t3\n";
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024    4096   files\n";
        let process = parse(status, stat, limits);
        let times = (process.user_time, process.system_time);
        assert_eq!(times, (Duration::from_millis(300), Duration::from_millis(700)));
        assert_eq!((process.memory, process.threads), (12 << 10, 3));
        assert_eq!(process.descriptor_limit, 1024);
        assert_eq!(parse("", "", ""), MeasuredProcess::default());
    }
}
