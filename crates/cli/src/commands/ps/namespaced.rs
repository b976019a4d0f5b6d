//! Containers of containerd's API.

use gantry_api::containerd::{containers::Container, task_types::Status};
use gantry_client::INIT;
use serde_json::Value;

use super::row::{ProcessRow, Row};
use crate::{containers::Containers, failure::Failure};

/// A container with what runs in it.
pub(super) async fn row(containers: &Containers, record: Container) -> Result<Row, Failure> {
    let task = containers.task(&record.id);
    let process = task.get().await?;
    let (status, pid) = process.as_ref().map_or(("stopped", 0), |it| (name(it.status()), it.pid));
    let pids = if process.is_some() { task.pids().await? } else { Vec::new() };
    // Only gantry and most others write JSON there; what cannot be read is not shown.
    let spec = record.spec.as_ref().map(|spec| spec.value.as_slice()).unwrap_or_default();
    let spec: Value = serde_json::from_slice(spec).unwrap_or_default();
    let init = ProcessRow { pid, ..configured(&spec["process"]) };
    Ok(Row {
        id: record.id,
        namespace: Some(containers.namespace().to_owned()),
        status: status.to_owned(),
        image: record.image,
        runtime: record.runtime.unwrap_or_default().name,
        bundle: String::new(),
        labels: record.labels.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        created_at: record.created_at,
        created: record.created_at.map(|time| time.to_string()),
        pids,
        processes: vec![init],
    })
}

/// The first process as its configuration has it.
fn configured(process: &Value) -> ProcessRow {
    let number = |value: &Value| value.as_u64().and_then(|it| u32::try_from(it).ok()).unwrap_or(0);
    let args = process["args"].as_array().into_iter().flatten();
    ProcessRow {
        id: INIT.to_owned(),
        pid: 0,
        terminal: process["terminal"].as_bool().unwrap_or_default(),
        uid: number(&process["user"]["uid"]),
        gid: number(&process["user"]["gid"]),
        cwd: process["cwd"].as_str().unwrap_or_default().to_owned(),
        args: args.filter_map(|arg| arg.as_str().map(str::to_owned)).collect(),
    }
}

fn name(status: Status) -> &'static str {
    match status {
        Status::Created => "created",
        Status::Running => "running",
        Status::Stopped => "stopped",
        Status::Paused => "paused",
        Status::Pausing => "pausing",
        Status::Unknown => "unknown",
    }
}
