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
/// Prints those that are damaged or cannot be read, with the namespaces that have them. The exit status is 0 if none is.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Only blobs of this namespace; may be repeated. [default: all namespaces]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Delete what is damaged, so that clients fetch it again
    ///
    /// It is deleted from all namespaces that have it, whatever --namespace says: they share one file, which a namespace
    /// would be given again as long as another one has it. A blob that cannot be read stays.
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
        let all = blobs.namespaces().await?;
        let namespaces = match self.namespace.is_empty() {
            true => all.clone(),
            false => self.namespace,
        };
        // What namespaces share is one file.
        let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for namespace in namespaces {
            for info in blobs.list(&namespace).await? {
                owners.entry(info.digest).or_default().push(namespace.clone());
            }
        }
        let (mut count, mut bytes, mut damaged, mut unreadable) = (0, 0, 0, 0);
        for (digest, owners) in &owners {
            let verdict = blobs.verify(digest, owners).await?;
            match &verdict {
                Verdict::Whole(size) => bytes += size,
                Verdict::Damaged(problem)
                | Verdict::Dropped(problem)
                | Verdict::Unreadable(problem) => {
                    output::line(format!("{digest}  {}  {problem}", owners.join(",")))?;
                }
                Verdict::Gone => {}
            }
            match verdict {
                Verdict::Gone => continue,
                Verdict::Whole(_) => {}
                Verdict::Damaged(_) => {
                    damaged += 1;
                    if self.remove {
                        blobs.delete(digest, &all).await?;
                    }
                }
                Verdict::Dropped(_) => damaged += 1,
                Verdict::Unreadable(_) => unreadable += 1,
            }
            count += 1;
        }
        match (damaged, unreadable) {
            (0, 0) => {}
            (_, 0) => return Err(Failure::new(format!("{damaged} of {count} blobs are damaged"))),
            _ => {
                let problem = format!(
                    "{damaged} of {count} blobs are damaged, and {unreadable} cannot be read"
                );
                return Err(Failure::new(problem));
            }
        }
        output::line(format!("{count} blobs, {}: all are whole", output::bytes(bytes)))?;
        Ok(ExitCode::SUCCESS)
    }
}
