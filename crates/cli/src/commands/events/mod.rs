//! `gantry events`

mod watched;

use std::process::ExitCode;

use clap::Args;
use gantry_client::{Client, ErrorKind, Event, EventFilter, EventKind, Timestamp};
use serde::Serialize;

use self::watched::Wanted;
use crate::{
    failure::{Failure, Outcome},
    output, parse,
    place::Everywhere,
};

/// Print what happens to containers
///
/// To those without namespace, or those of the namespaces that options name; -A means both. Goes on until it is
/// interrupted, across restarts of the server.
#[derive(Debug, Args)]
pub(crate) struct Events {
    /// Print the stored events after this time first: RFC 3339, @SECONDS, or how long ago (10m)
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    since: Option<Timestamp>,
    /// Print the stored events only
    #[arg(long, visible_alias = "until-now")]
    stored: bool,
    #[command(flatten)]
    place: Everywhere,
    /// Only of this container
    #[arg(long)]
    id: Option<String>,
    /// Print JSON, one event a line
    #[arg(long)]
    json: bool,
}

/// An event as it is printed.
#[derive(Debug, Serialize)]
struct Row<'a> {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    id: &'a str,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u32>,
}

impl Events {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let all = Timestamp::default();
        let since = if self.stored { Some(self.since.unwrap_or(all)) } else { self.since };
        if self.place.all_namespaces || self.place.namespace.is_some() {
            let (container, stored_only) = (self.id, self.stored);
            let namespaces = self.place.namespace.into_iter().collect();
            let wanted = Wanted { namespaces, container, since, stored_only };
            watched::follow(client, &wanted, |row| print(row, self.json)).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut filter = EventFilter::default();
        (filter.since, filter.container, filter.stored_only) = (since, self.id, self.stored);
        let mut events = client.events(filter);
        loop {
            match events.next().await {
                Ok(None) => return Ok(ExitCode::SUCCESS),
                Ok(Some(event)) => print(&Row::from(&event), self.json)?,
                Err(error) => match error.kind() {
                    ErrorKind::Unavailable(_) if !self.stored => {}
                    ErrorKind::EventsLost(_) => eprintln!("gantry: {error:#}"),
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

fn print(row: &Row<'_>, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(row);
    }
    let pid = row.pid.map(|pid| format!(" pid={pid}")).unwrap_or_default();
    let status = row.status.map(|status| format!(" status={status}")).unwrap_or_default();
    let namespace = row.namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
    output::line(format!("{} {namespace}{} {}{pid}{status}", row.time, row.id, row.r#type))
}

impl<'a> From<&'a Event> for Row<'a> {
    fn from(event: &'a Event) -> Self {
        let (r#type, pid, status) = match &event.kind {
            EventKind::Started => ("start-container", None, None),
            EventKind::ProcessStarted { process } => ("start-process", Some(process), None),
            EventKind::Exited { process, status } => ("exit", Some(process), Some(*status)),
            EventKind::Paused => ("pause", None, None),
            EventKind::Resumed => ("resume", None, None),
            EventKind::OutOfMemory => ("oom", None, None),
            EventKind::Other(name) => (name.as_str(), None, None),
            _ => ("unknown", None, None),
        };
        let pid = pid.map(String::as_str);
        let (time, id) = (event.time.to_string(), event.container.as_str());
        Row { time, namespace: None, id, r#type, pid, status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_what_the_event_has() {
        let kind = EventKind::Exited { process: "init".into(), status: 3 };
        let mut event = Event::new("web", kind, Timestamp { seconds: 1, nanos: 5 });
        let json = serde_json::to_string(&Row::from(&event)).unwrap();
        let time = "1970-01-01T00:00:01.000000005Z";
        let exit = r#""id":"web","type":"exit","pid":"init","status":3"#;
        assert_eq!(json, format!(r#"{{"time":"{time}",{exit}}}"#));
        event.kind = EventKind::Paused;
        let json = serde_json::to_string(&Row::from(&event)).unwrap();
        assert_eq!(json, format!(r#"{{"time":"{time}","id":"web","type":"pause"}}"#));
    }
}
