//! `gantry content`

use std::{collections::BTreeMap, process::ExitCode};

use clap::{Args, Subcommand};
use gantry_client::Client;

use crate::{
    blobs::{Blobs, Verdict},
    failure::{Failure, Outcome},
    output,
};

/// Check content: the blobs that images consist of
#[derive(Debug, Subcommand)]
pub(crate) enum Content {
    Verify(Verify),
}

/// Read all blobs, and compare each with its digest
///
/// Prints those that are damaged, with the namespaces that have them. The exit status is 0 if none is.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only blobs of this namespace; may be repeated. [default: all namespaces]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Delete what is damaged from these namespaces, so that clients fetch it again
    #[arg(long)]
    remove: bool,
}

impl Content {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        match self {
            Content::Verify(verify) => verify.run(client).await,
        }
    }
}

impl Verify {
    async fn run(self, client: &Client) -> Outcome {
        let blobs = Blobs::of(client);
        let namespaces = match self.namespace.is_empty() {
            true => blobs.namespaces().await?,
            false => self.namespace,
        };
        // What namespaces share is one file.
        let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for namespace in namespaces {
            for digest in blobs.list(&namespace).await? {
                owners.entry(digest).or_default().push(namespace.clone());
            }
        }
        let (mut count, mut bytes, mut damaged) = (0, 0, 0);
        for (digest, owners) in &owners {
            match blobs.verify(digest, owners).await? {
                Verdict::Whole(size) => {
                    count += 1;
                    bytes += size;
                }
                Verdict::Damaged(problem) => {
                    count += 1;
                    damaged += 1;
                    output::line(format!("{digest}  {}  {problem}", owners.join(",")))?;
                    if self.remove {
                        blobs.delete(digest, owners).await?;
                    }
                }
                Verdict::Gone => {}
            }
        }
        if damaged > 0 {
            return Err(Failure::new(format!("{damaged} of {count} blobs are damaged")));
        }
        output::line(format!("{count} blobs, {}: all are whole", output::bytes(bytes)))?;
        Ok(ExitCode::SUCCESS)
    }
}
