//! Containers and processes as they are printed.

use std::str::FromStr;

use gantry_api::Timestamp;
use gantry_client::{INIT, types};
use serde::Serialize;

use crate::{commands::images::age, output};

/// A container as it is printed.
#[derive(Debug, Default, Serialize)]
pub(super) struct Row {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    pub(super) status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) image: String,
    pub(super) runtime: String,
    pub(super) bundle: String,
    pub(super) labels: Vec<String>,
    #[serde(skip)]
    pub(super) created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) created: Option<String>,
    pub(super) pids: Vec<u32>,
    pub(super) processes: Vec<ProcessRow>,
}

/// A process as it is printed.
#[derive(Debug, Default, Serialize)]
pub(super) struct ProcessRow {
    pub(super) id: String,
    pub(super) pid: u32,
    pub(super) terminal: bool,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) cwd: String,
    pub(super) args: Vec<String>,
}

impl From<types::Container> for Row {
    fn from(container: types::Container) -> Row {
        Row {
            id: container.id,
            status: container.status,
            runtime: container.runtime,
            bundle: container.bundle_path,
            labels: container.labels,
            pids: container.pids,
            processes: container.processes.into_iter().map(ProcessRow::from).collect(),
            ..Row::default()
        }
    }
}

impl Row {
    pub(super) fn cells(&self) -> [String; 7] {
        let init = self.processes.iter().find(|p| p.id == INIT);
        let pid = init.filter(|it| it.pid != 0).map_or("-".to_owned(), |p| p.pid.to_string());
        let command = init.map_or(String::new(), ProcessRow::command);
        [
            self.id.clone(),
            self.namespace.clone().unwrap_or_else(|| "-".to_owned()),
            self.status.clone(),
            age(self.created_at),
            pid,
            self.pids.len().to_string(),
            command,
        ]
    }
}

impl From<types::Process> for ProcessRow {
    fn from(process: types::Process) -> ProcessRow {
        let user = process.user.unwrap_or_default();
        ProcessRow {
            id: process.pid,
            pid: process.system_pid,
            terminal: process.terminal,
            uid: user.uid,
            gid: user.gid,
            cwd: process.cwd,
            args: process.args,
        }
    }
}

impl ProcessRow {
    pub(super) fn cells(&self) -> [String; 5] {
        let user = format!("{}:{}", self.uid, self.gid);
        let terminal = if self.terminal { "yes" } else { "no" };
        [self.id.clone(), self.pid.to_string(), user, terminal.to_owned(), self.command()]
    }

    /// Arguments may hold anything, so control characters are made visible.
    fn command(&self) -> String {
        const WIDTH: usize = 60;
        let command = output::printable(&self.args.join(" "));
        match command.char_indices().nth(WIDTH) {
            Some((end, _)) => format!("{}...", &command[..end]),
            None => command,
        }
    }
}

/// What a container must have to be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Filter {
    Id(String),
    Image(String),
    Status(String),
    /// A label, or the beginning of one up to its value.
    Label(String),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Filter, String> {
        let of = |value: &str| value.to_owned();
        match text.split_once('=') {
            Some(("id", value)) => Ok(Filter::Id(of(value))),
            Some(("image", value)) => Ok(Filter::Image(of(value))),
            Some(("status", value)) => Ok(Filter::Status(of(value))),
            Some(("label", value)) => Ok(Filter::Label(of(value))),
            _ => Err(format!("{text:?} is no filter: want id=, image=, status= or label=")),
        }
    }
}

impl Filter {
    pub(super) fn finds(&self, row: &Row) -> bool {
        match self {
            Filter::Id(part) => row.id.contains(part),
            Filter::Image(part) => row.image.contains(part),
            Filter::Status(status) => row.status == *status,
            Filter::Label(wanted) => row.labels.iter().any(|label| {
                label == wanted || label.split_once('=').is_some_and(|(name, _)| name == wanted)
            }),
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
            labels: vec!["tier=front".into()],
            pids: vec![42, 43],
            processes: vec![init],
            ..types::Container::default()
        }
    }

    #[test]
    fn a_container_is_a_row() {
        let cells = Row::from(container()).cells();
        assert_eq!(cells, ["web", "-", "running", "-", "42", "2", "sh -c a\\nb"]);
    }

    #[test]
    fn json_has_every_process() {
        let json = serde_json::to_value(Row::from(container())).unwrap();
        assert_eq!(json["processes"][0]["args"][2], "a\nb");
        assert_eq!(json["pids"], serde_json::json!([42, 43]));
        assert_eq!(json.get("namespace"), None);
    }

    #[test]
    fn filters_are_about_parts_of_a_container() {
        let row = Row::from(container());
        for (text, expected) in [
            ("id=we", true),
            ("id=db", false),
            ("image=a", false),
            ("status=running", true),
            ("status=run", false),
            ("label=tier", true),
            ("label=tier=front", true),
            ("label=tier=back", false),
        ] {
            assert_eq!(text.parse::<Filter>().unwrap().finds(&row), expected, "{text}");
        }
        "web".parse::<Filter>().unwrap_err();
        "pid=1".parse::<Filter>().unwrap_err();
    }
}
