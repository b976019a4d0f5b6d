//! `gantry ps`

use std::process::ExitCode;

use clap::Args;
use gantry_client::{Client, INIT, types};
use serde::Serialize;

use crate::{failure::Outcome, output};

/// List containers, or the processes of one
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Print JSON, one container or process a line
    #[arg(long)]
    json: bool,
    /// Id of a container
    id: Option<String>,
}

/// A container as it is printed.
#[derive(Debug, Serialize)]
struct ContainerRow<'a> {
    id: &'a str,
    status: &'a str,
    runtime: &'a str,
    bundle: &'a str,
    labels: &'a [String],
    pids: &'a [u32],
    processes: Vec<ProcessRow<'a>>,
}

/// A process as it is printed.
#[derive(Debug, Serialize)]
struct ProcessRow<'a> {
    id: &'a str,
    pid: u32,
    terminal: bool,
    uid: u32,
    gid: u32,
    cwd: &'a str,
    args: &'a [String],
}

impl Ps {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        match &self.id {
            Some(id) => self.processes(&client.container(id).state().await?)?,
            None => self.containers(&client.state().await?.containers)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn containers(&self, containers: &[types::Container]) -> Result<(), crate::failure::Failure> {
        let mut rows: Vec<_> = containers.iter().map(ContainerRow::from).collect();
        rows.sort_unstable_by_key(|row| row.id);
        if self.json {
            return rows.iter().try_for_each(output::json);
        }
        let mut table = vec![["ID", "STATUS", "PID", "PIDS", "COMMAND"].map(str::to_owned)];
        table.extend(rows.iter().map(ContainerRow::cells));
        output::table(&table)
    }

    fn processes(&self, container: &types::Container) -> Result<(), crate::failure::Failure> {
        let row = ContainerRow::from(container);
        if self.json {
            return row.processes.iter().try_for_each(output::json);
        }
        let mut table = vec![["PROCESS", "PID", "USER", "TTY", "COMMAND"].map(str::to_owned)];
        table.extend(row.processes.iter().map(ProcessRow::cells));
        output::table(&table)
    }
}

impl<'a> From<&'a types::Container> for ContainerRow<'a> {
    fn from(container: &'a types::Container) -> Self {
        ContainerRow {
            id: &container.id,
            status: &container.status,
            runtime: &container.runtime,
            bundle: &container.bundle_path,
            labels: &container.labels,
            pids: &container.pids,
            processes: container.processes.iter().map(ProcessRow::from).collect(),
        }
    }
}

impl ContainerRow<'_> {
    fn cells(&self) -> [String; 5] {
        let init = self.processes.iter().find(|p| p.id == INIT);
        let pid = init.map_or("-".to_owned(), |p| p.pid.to_string());
        let command = init.map_or(String::new(), ProcessRow::command);
        [self.id.to_owned(), self.status.to_owned(), pid, self.pids.len().to_string(), command]
    }
}

impl<'a> From<&'a types::Process> for ProcessRow<'a> {
    fn from(process: &'a types::Process) -> Self {
        let user = process.user.as_ref();
        ProcessRow {
            id: &process.pid,
            pid: process.system_pid,
            terminal: process.terminal,
            uid: user.map_or(0, |u| u.uid),
            gid: user.map_or(0, |u| u.gid),
            cwd: &process.cwd,
            args: &process.args,
        }
    }
}

impl ProcessRow<'_> {
    fn cells(&self) -> [String; 5] {
        let user = format!("{}:{}", self.uid, self.gid);
        let terminal = if self.terminal { "yes" } else { "no" };
        [self.id.to_owned(), self.pid.to_string(), user, terminal.to_owned(), self.command()]
    }

    /// Arguments may hold anything, so control characters are made visible.
    fn command(&self) -> String {
        const WIDTH: usize = 60;
        let command = self.args.join(" ").escape_debug().to_string();
        match command.char_indices().nth(WIDTH) {
            Some((end, _)) => format!("{}...", &command[..end]),
            None => command,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container() -> types::Container {
        let init = types::Process {
            pid: INIT.into(),
            system_pid: 42,
            args: vec!["sh".into(), "-c".into(), "a\nb".into()],
            ..types::Process::default()
        };
        types::Container {
            id: "web".into(),
            status: "running".into(),
            pids: vec![42, 43],
            processes: vec![init],
            ..types::Container::default()
        }
    }

    #[test]
    fn a_container_is_a_row() {
        let container = container();
        let cells = ContainerRow::from(&container).cells();
        assert_eq!(cells, ["web", "running", "42", "2", "sh -c a\\nb"]);
    }

    #[test]
    fn json_has_every_process() {
        let container = container();
        let json = serde_json::to_value(ContainerRow::from(&container)).unwrap();
        assert_eq!(json["processes"][0]["args"][2], "a\nb");
        assert_eq!(json["pids"], serde_json::json!([42, 43]));
    }
}
