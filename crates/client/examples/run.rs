//! Runs one program in a container, prints its output and exits as it did.
//!
//! `cargo run -p gantry-client --example run -- SOCKET ROOTFS PROGRAM [ARGUMENT]...`

use std::{env, error::Error, path::PathBuf, process::ExitCode, time::Duration};

use gantry_client::{Client, Stdio, spec::DefaultSpec};
use tokio::io;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let (Some(socket), Some(rootfs)) = (args.next(), args.next()) else {
        return Err("usage: run SOCKET ROOTFS PROGRAM [ARGUMENT]...".into());
    };
    let rootfs = PathBuf::from(rootfs).canonicalize()?;
    let spec = DefaultSpec::new(rootfs, args).read_only_root(true).build()?;
    let id = format!("example-{}", std::process::id());
    let bundle = env::temp_dir().join(&id);

    let client = Client::connect(socket, Duration::from_secs(5)).await?;
    let create = client.create(&id, &bundle).spec(spec);
    let container = create.stdout(Stdio::Pipe).stderr(Stdio::Pipe).start().await?;

    let streams = container.take_stdio();
    if let (Some(mut out), Some(mut err)) = (streams.stdout, streams.stderr) {
        let (mut stdout, mut stderr) = (io::stdout(), io::stderr());
        tokio::try_join!(io::copy(&mut out, &mut stdout), io::copy(&mut err, &mut stderr))?;
    }
    let exit = container.wait().await?;
    container.remove_bundle()?;
    Ok(ExitCode::from(u8::try_from(exit.status)?))
}
