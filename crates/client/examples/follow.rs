//! Prints every event once, however often this program and the server are restarted.
//!
//! `cargo run -p gantry-client --example follow -- SOCKET TIMESTAMP_FILE`

use std::{env, error::Error, sync::Arc, time::Duration};

use gantry_client::{Client, EventFollower, EventHandler, EventKind, StateChange};

struct Printer;

impl EventHandler for Printer {
    async fn handle(&self, change: StateChange) {
        let StateChange { event, out_of_memory, .. } = change;
        match event.kind {
            EventKind::Exited { process, status } => {
                let why = if out_of_memory { ", out of memory" } else { "" };
                println!("{} {}/{process} exited with {status}{why}", event.time, event.container);
            }
            kind => println!("{} {} {kind:?}", event.time, event.container),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(socket), Some(file)) = (args.next(), args.next()) else {
        return Err("usage: follow SOCKET TIMESTAMP_FILE".into());
    };
    let client = Client::connect(socket, Duration::from_secs(5)).await?;
    EventFollower::open(&client, file).await?.run(Arc::new(Printer)).await?;
    Ok(())
}
