//! `gantry content`

use std::{collections::BTreeMap, process::ExitCode};

use clap::{Args, Subcommand};
use gantry_client::Client;
use serde_json::json;

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
    /// Print JSON, a blob that is damaged or cannot be read a line
    #[arg(long)]
    json: bool,
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
            false => self.namespace.clone(),
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
                    let is_damaged = !matches!(verdict, Verdict::Unreadable(_));
                    self.print(digest, owners, problem, is_damaged)?;
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
        if !self.json {
            output::line(format!("{count} blobs, {}: all are whole", output::bytes(bytes)))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print(
        &self,
        digest: &str,
        namespaces: &[String],
        problem: &str,
        is_damaged: bool,
    ) -> Result<(), Failure> {
        if !self.json {
            return output::line(format!("{digest}  {}  {problem}", namespaces.join(",")));
        }
        output::json(&json!({
            "digest": digest, "namespaces": namespaces, "problem": problem, "damaged": is_damaged,
        }))
    }
}
