//! Runs a server as a daemon does, restarts it when it fails, and stops it on ctrl-c.
//!
//! `cargo run -p gantry-client --example supervise -- GANTRYD DIRECTORY`

use std::{env, error::Error, path::PathBuf, time::Duration};

use gantry_client::{Client, supervise::ServerCommand};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(binary), Some(dir)) = (args.next(), args.next().map(PathBuf::from)) else {
        return Err("usage: supervise GANTRYD DIRECTORY".into());
    };
    let socket = dir.join("gantryd.sock");
    let path = |name: &str| dir.join(name).display().to_string();
    let server = ServerCommand::new(binary, &socket, dir.join("gantryd.pid"))
        .args(["--state-dir".to_owned(), path("state"), "--root".to_owned(), path("root")])
        .oom_score_adj(-500)
        .start()
        .await?;

    let client = Client::connect(&socket, Duration::from_secs(5)).await?;
    let version = client.server_version().await?;
    println!("version {}.{}.{}", version.major, version.minor, version.patch);
    tokio::signal::ctrl_c().await?;
    server.shutdown().await?;
    Ok(())
}
