//! `gantry top`

mod keys;
mod processes;
mod quantile;
mod reading;
mod report;
mod server;

use std::time::Duration;

use clap::Args;
use gantry_client::Client;

use crate::{failure::Outcome, parse, place::PlaceOption};

/// Show what the whole server does, or list all processes in a container
///
/// Without an id: calls, containers, launches and the journal, and the busiest containers, drawn in its place once an
/// interval until `q` or ctrl-c is typed; without a terminal, once. With an id: the container's processes, those that its
/// own programs have started too, once; pids and users are the host's.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Time between two readings of the server
    #[arg(short = 'n', long, default_value = "2s", value_parser = parse::interval)]
    interval: Duration,
    /// Print one reading of the server, of what it has done in an interval
    #[arg(long, conflicts_with = "id")]
    once: bool,
    /// Print JSON, one reading or one process a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the container
    id: Option<String>,
}

impl Top {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let Self { interval, once, json, place, id } = self;
        match id {
            Some(id) => processes::list(client, &place, &id, json).await,
            None => server::Watched { interval, once, json, place }.run(client).await,
        }
    }
}
