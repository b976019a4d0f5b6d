//! The server as a process, see proc(5).

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use gantry_disk::Disks;
use tokio::sync::Mutex;

/// Of times in /proc in a second: USER_HZ, which is 100 on all machines that Rust has Linux for.
const TICK: Duration = Duration::from_millis(10);

/// How old a reading may be that is handed out again. A new one lists all open files.
const FRESH: Duration = Duration::from_millis(100);

/// The last reading, and when that was. Whoever wants a new one waits for the one that is being made.
#[derive(Default)]
pub(super) struct LastReading(Mutex<Option<(Instant, MeasuredProcess)>>);

impl LastReading {
    /// The last reading, or a new one. If /proc does not answer, the last one however old, or zeros.
    pub(super) async fn get(&self, disks: &Disks) -> MeasuredProcess {
        let mut last = self.0.lock().await;
        if let Some((_, process)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return process;
        }
        let read = |_: &Path| MeasuredProcess::read();
        let process = match disks.run("measure the server in", Path::new("/proc"), read).await {
            Ok(process) => process,
            Err(error) => {
                tracing::warn!(%error, "the server's process is not measured");
                last.map(|(_, process)| process).unwrap_or_default()
            }
        };
        *last = Some((Instant::now(), process));
        process
    }
}

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
    fn read() -> Self {
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

    #[tokio::test]
    async fn a_reading_is_handed_out_while_it_is_fresh() {
        let (last, disks) = (LastReading::default(), Disks::new().unwrap());
        assert!(last.get(&disks).await.memory > 100_000);
        let other = MeasuredProcess { threads: 4321, ..MeasuredProcess::default() };
        let has_been_read = async |at| *last.0.lock().await = Some((at, other));
        // An age is never negative.
        has_been_read(Instant::now() + Duration::from_secs(60)).await;
        assert_eq!(last.get(&disks).await, other);
        has_been_read(Instant::now() - FRESH).await;
        assert!(last.get(&disks).await.memory > 100_000);
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
