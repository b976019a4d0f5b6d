//! Creates the container at gantryd and starts its program.

use std::{fs::File, path::PathBuf};

use gantry_client::{Client, Stdio, oci_spec::runtime::Spec};

use crate::{Error, Result, container::Container};

/// A checkpoint to restore instead of starting the program.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
    /// Where it is, if not among the container's own.
    pub dir: Option<PathBuf>,
}

/// All or nothing: after an error, what the client has prepared is removed.
pub(super) async fn create(
    client: &Client,
    container: &Container,
    spec: Spec,
    checkpoint: Option<Checkpoint>,
) -> Result<gantry_client::Container> {
    let config = container.record().config;
    // gantryd appends to it, so that the output of earlier runs stays.
    let output = container.output();
    let made = File::options().create(true).append(true).open(&output);
    made.map_err(|error| Error::io("create", &output, error))?;
    let mut builder = client
        .create(container.id(), &container.bundle())
        .spec(spec)
        .stdout(Stdio::Path(output.clone()))
        .stderr(Stdio::Path(output))
        .runtime(config.runtime)
        .runtime_args(config.runtime_args)
        .labels(config.labels.iter().map(|(name, value)| format!("{name}={value}")));
    if let Some(Checkpoint { name, dir }) = checkpoint {
        builder = builder.checkpoint(name);
        if let Some(dir) = dir {
            builder = builder.checkpoint_dir(&dir)?;
        }
    }
    Ok(builder.start().await?)
}
