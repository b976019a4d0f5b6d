//! Runs a further program in a container, with this program's input, and exits as it did.
//!
//! `echo hello | cargo run -p gantry-client --example exec -- SOCKET CONTAINER cat`

use std::{env, error::Error, process::ExitCode, time::Duration};

use gantry_client::{Client, Stdio};
use tokio::io::{self, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(socket), Some(id)) = (args.next(), args.next()) else {
        return Err("usage: exec SOCKET CONTAINER PROGRAM [ARGUMENT]...".into());
    };
    let client = Client::connect(socket, Duration::from_secs(5)).await?;
    let name = format!("example-{}", std::process::id());
    let exec = client.container(&id).exec_like_init(&name, args.collect()).await?;
    let process = exec.stdin(Stdio::Pipe).stdout(Stdio::Pipe).start().await?;

    let streams = process.take_stdio();
    if let Some(mut stdin) = streams.stdin {
        tokio::spawn(async move {
            io::copy(&mut io::stdin(), &mut stdin).await?;
            stdin.shutdown().await
        });
    }
    if let Some(mut stdout) = streams.stdout {
        io::copy(&mut stdout, &mut io::stdout()).await?;
    }
    let exit = process.wait().await?;
    process.remove_pipes();
    Ok(ExitCode::from(u8::try_from(exit.status)?))
}
