//! `gantry ps`

mod namespaced;
mod row;

use std::process::ExitCode;

use clap::Args;
use gantry_client::Client;

use self::row::{Filter, ProcessRow, Row};
use crate::{
    containers::Containers,
    failure::{Failure, Outcome},
    output,
    place::{Everywhere, PlaceOption},
};

/// List containers, or the processes of one
///
/// Those without namespace, and those of a namespace: of $CONTAINERD_NAMESPACE or `default`, unless options say otherwise. A
/// container of a namespace may have no processes; it is `stopped` then.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,
    /// Print JSON, one container or process a line
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
    #[command(flatten)]
    place: Everywhere,
    /// Only containers that have this: id=PART, image=PART, status=STATUS, label=NAME or label=NAME=VALUE; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// Id of a container
    id: Option<String>,
}

impl Ps {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        match &self.id {
            Some(id) => {
                let place = PlaceOption { namespace: self.place.namespace.clone() };
                self.processes(&one(&place, client, id).await?.processes)?;
            }
            None => self.containers(&self.all(client).await?)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn all(&self, client: &Client) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        if self.place.has_plain() {
            rows.extend(client.state().await?.containers.into_iter().map(Row::from));
        }
        for namespace in self.place.namespaces(client).await? {
            let containers = Containers::of(client, &namespace);
            let records = containers.list().await?;
            for record in records {
                rows.push(namespaced::row(&containers, record).await?);
            }
        }
        rows.retain(|row| self.filter.iter().all(|filter| filter.finds(row)));
        rows.sort_unstable_by(|a, b| (&a.namespace, &a.id).cmp(&(&b.namespace, &b.id)));
        Ok(rows)
    }

    fn containers(&self, rows: &[Row]) -> Result<(), Failure> {
        if self.quiet {
            return rows.iter().try_for_each(|row| output::line(&row.id));
        }
        if self.json {
            return rows.iter().try_for_each(output::json);
        }
        let head = ["ID", "NAMESPACE", "STATUS", "AGE", "PID", "PIDS", "COMMAND"];
        let mut table = vec![head.map(str::to_owned)];
        table.extend(rows.iter().map(Row::cells));
        output::table(&table)
    }

    fn processes(&self, rows: &[ProcessRow]) -> Result<(), Failure> {
        if self.quiet {
            return rows.iter().try_for_each(|row| output::line(&row.id));
        }
        if self.json {
            return rows.iter().try_for_each(output::json);
        }
        let mut table = vec![["PROCESS", "PID", "USER", "TTY", "COMMAND"].map(str::to_owned)];
        table.extend(rows.iter().map(ProcessRow::cells));
        output::table(&table)
    }
}

async fn one(place: &PlaceOption, client: &Client, id: &str) -> Result<Row, Failure> {
    match place.find(client, id).await? {
        Some(found) => namespaced::row(&found.containers, found.record).await,
        None => Ok(Row::from(client.container(id).state().await?)),
    }
}

/// A container as `--json` prints it.
pub(crate) async fn described(
    place: &PlaceOption,
    client: &Client,
    id: &str,
) -> Result<serde_json::Value, Failure> {
    let row = one(place, client, id).await?;
    serde_json::to_value(row).map_err(|error| Failure::new(format!("write JSON: {error}")))
}
