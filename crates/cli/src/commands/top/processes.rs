//! `gantry top ID`: the processes of a container.

use std::{fs, path::Path, process::ExitCode, time::Duration};

use gantry_client::Client;
use serde::Serialize;
use serde_json::Value;

use crate::{
    failure::{Failure, Outcome},
    output,
    place::PlaceOption,
};

/// Of times in /proc in a second: USER_HZ, which is 100 on all machines that Rust has Linux for.
const TICKS: u64 = 100;

/// A process as the kernel tells it, see proc(5).
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Row {
    pid: u32,
    parent: u32,
    uid: u32,
    state: String,
    threads: u64,
    /// Resident, in bytes.
    memory: u64,
    /// In milliseconds.
    cpu_time: u64,
    args: Vec<String>,
}

/// Lists them, as a table or as JSON.
pub(super) async fn list(client: &Client, place: &PlaceOption, id: &str, json: bool) -> Outcome {
    let (pids, config) = match place.find(client, id).await? {
        Some(found) => {
            let pids = found.containers.task(id).pids().await?;
            if pids.is_empty() {
                return Err(Failure::new(format!("nothing runs in container {id}")));
            }
            (pids, found.record.spec.map(|spec| spec.value))
        }
        None => {
            let state = client.container(id).state().await?;
            (state.pids, fs::read(Path::new(&state.bundle_path).join("config.json")).ok())
        }
    };
    let config = config.and_then(|text| serde_json::from_slice(&text).ok());
    let cgroup = config.as_ref().and_then(cgroup_name);
    let is_its = |pid: u32| {
        cgroup.is_none_or(|name| read_text(pid, "cgroup").is_some_and(|text| is_in(&text, name)))
    };
    // One that has just ended is none; and in another pid namespace, the numbers mean other processes.
    let mut rows: Vec<_> =
        pids.iter().filter(|pid| is_its(**pid)).filter_map(|pid| read(*pid)).collect();
    rows.sort_unstable_by_key(|row| row.pid);
    if rows.is_empty() && !pids.is_empty() {
        let problem = "its processes are not in this command's /proc (another pid namespace?)";
        return Err(Failure::new(format!("{id}: {problem}")));
    }
    if json {
        rows.iter().try_for_each(output::json)?;
        return Ok(ExitCode::SUCCESS);
    }
    let head = ["PID", "PPID", "UID", "STATE", "THREADS", "MEMORY", "TIME", "COMMAND"];
    let mut table = vec![head.map(str::to_owned)];
    table.extend(rows.iter().map(Row::cells));
    output::table(&table)?;
    Ok(ExitCode::SUCCESS)
}

impl Row {
    fn cells(&self) -> [String; 8] {
        [
            self.pid.to_string(),
            self.parent.to_string(),
            self.uid.to_string(),
            self.state.clone(),
            self.threads.to_string(),
            output::bytes(self.memory),
            time(Duration::from_millis(self.cpu_time)),
            output::printable(&self.args.join(" ")),
        ]
    }
}

fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// The last part of the cgroup's path that a configuration wants, or of systemd's SLICE:PREFIX:NAME.
fn cgroup_name(config: &Value) -> Option<&str> {
    let path = config["linux"]["cgroupsPath"].as_str()?;
    path.rsplit(['/', ':']).find(|part| !part.is_empty())
}

/// Whether a process whose /proc/PID/cgroup this is belongs to a cgroup of that name, or one below.
fn is_in(cgroups: &str, name: &str) -> bool {
    cgroups.lines().flat_map(|line| line.split('/')).any(|part| {
        let scope = part.strip_suffix(".scope").and_then(|part| part.strip_suffix(name));
        part == name || scope.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('-'))
    })
}

fn read_file(pid: u32, name: &str) -> Option<Vec<u8>> {
    fs::read(format!("/proc/{pid}/{name}")).ok()
}

fn read_text(pid: u32, name: &str) -> Option<String> {
    read_file(pid, name).map(|data| String::from_utf8_lossy(&data).into_owned())
}

fn read(pid: u32) -> Option<Row> {
    let command_line = read_file(pid, "cmdline")?;
    parse(pid, &read_text(pid, "stat")?, &read_text(pid, "status")?, &command_line)
}

fn parse(pid: u32, stat: &str, status: &str, command_line: &[u8]) -> Option<Row> {
    // The name, in parentheses, may hold anything. After it comes field 3.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<_> = fields.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = |number: usize| field(number).and_then(|text| text.parse::<u64>().ok());
    let line = |name: &str| {
        let mut lines = status.lines().filter_map(|line| line.strip_prefix(name));
        lines.next().and_then(|rest| rest.strip_prefix(':')?.split_whitespace().next())
    };
    let name = line("Name").unwrap_or_default();
    let args = match command_line.strip_suffix(&[0]).unwrap_or(command_line) {
        // A zombie, or a thread of the kernel's, as ps(1) shows it.
        [] => vec![format!("[{name}]")],
        words => words
            .split(|byte| *byte == 0)
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect(),
    };
    Some(Row {
        pid,
        parent: field(4)?.parse().ok()?,
        uid: line("Uid")?.parse().ok()?,
        state: field(3)?.to_owned(),
        threads: ticks(20)?,
        memory: line("VmRSS").and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024,
        cpu_time: (ticks(14)? + ticks(15)?) * 1000 / TICKS,
        args,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_a_row() {
        let row = read(std::process::id()).unwrap();
        assert_eq!(row.parent, std::os::unix::process::parent_id());
        assert_eq!(row.uid, rustix::process::getuid().as_raw());
        assert!(row.threads >= 1 && row.memory > 0 && !row.args[0].is_empty());
    }

    #[test]
    fn a_process_of_another_cgroup_is_another() {
        let name = |path: &str| {
            let config = serde_json::json!({ "linux": { "cgroupsPath": path } });
            cgroup_name(&config).map(str::to_owned)
        };
        assert_eq!(name("/gantry/web").as_deref(), Some("web"));
        assert_eq!(name("system.slice:docker:web").as_deref(), Some("web"));
        assert_eq!(cgroup_name(&Value::Null), None);
        for of_it in
            ["0::/gantry/web\n", "2:cpu:/a\n1:pids:/gantry/web/below\n", "0::/a/docker-web.scope"]
        {
            assert!(is_in(of_it, "web"), "{of_it}");
        }
        for other in ["0::/\n", "0::/gantry/webs\n", "0::/web.service", "0::/myweb.scope", ""] {
            assert!(!is_in(other, "web"), "{other}");
        }
    }

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "7 (a) b (c) Z 1 7 7 0 -1 4 0 0 0 0 30 70 0 0 20 0 1 0 5 0 0";
        let row = parse(7, stat, "Name:\ta\nUid:\t5\t5\n", b"").unwrap();
        assert_eq!((row.parent, row.uid, row.state.as_str()), (1, 5, "Z"));
        assert_eq!((row.threads, row.memory, row.args), (1, 0, vec!["[a]".to_owned()]));
        let row = parse(7, stat, "Name:\ta\nUid:\t5\t5\n", b"sh\0-c\0a b\0").unwrap();
        assert_eq!(row.args, ["sh", "-c", "a b"]);
        assert_eq!(time(Duration::from_secs(3725)), "1:02:05");
    }
}
