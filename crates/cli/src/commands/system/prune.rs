//! `gantry system prune`

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::ExitCode,
};

use clap::Args;
use gantry_client::Client;
use serde_json::json;

use super::{
    chosen,
    plan::{Fate, Plan, user},
};
use crate::{
    blobs::Blobs,
    bundles::{self, TaskDir},
    containers::Containers,
    failure::{Failure, Outcome},
    holders::{Node, Survey},
    images::Images,
    leases, output, pipe_dirs,
    place::default_namespace,
};

/// Remove what nobody needs any more
///
/// That is: containers of `gantry run IMAGE` in which nothing runs; leases of `gantry` commands that were killed; writes of
/// content, whoever has begun them, that no lease holds and nobody has gone on with for an hour; with --images, the images that no
/// container is made of, unless they are pinned or a lease holds them; and then, by the server's garbage collection, all content
/// and snapshots that nothing holds. Containers and leases of other clients stay, as do running containers. Each is
/// printed, with the reason.
#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Only print what would be removed, and what would stay
    #[arg(long)]
    dry_run: bool,
    /// Remove images, too, unless there is a container of them. Without --namespace only those of $CONTAINERD_NAMESPACE or
    /// `default`: images of other namespaces belong to other clients
    #[arg(short, long)]
    images: bool,
    /// Only of this namespace; may be repeated. [default: all namespaces]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
    /// Print JSON: an object a line, and then how much was freed, in bytes and objects
    #[arg(long)]
    json: bool,
}

impl Prune {
    pub(crate) async fn run(self, client: &Client, server: &Path) -> Outcome {
        let mut plans = Vec::new();
        for namespace in chosen(client, &self.namespace).await? {
            let survey = Survey::of(client, &namespace).await?;
            let containers = Containers::of(client, &namespace);
            plans.push(Plan::of(survey, &containers, self.takes_images(&namespace)).await?);
        }
        let mut failures = Vec::new();
        let mut table = Vec::new();
        for plan in &plans {
            let namespace = &plan.survey.namespace;
            for fate in &plan.fates {
                let done = match fate.goes && !self.dry_run {
                    true => remove(client, plan, fate).await,
                    false => Ok(()),
                };
                let action = match (&done, fate.goes, self.dry_run) {
                    (Err(_), ..) => "not removed",
                    (_, true, true) => "would go",
                    (_, true, false) => "removed",
                    (_, false, _) => "stays",
                };
                failures.extend(done.err());
                table.push(cells(action, namespace, fate));
            }
        }
        if !self.dry_run {
            failures.extend(finish(client, server, &plans).await);
        }
        let (count, size) = freed(&plans);
        if self.json {
            for [action, namespace, kind, name, reason] in &table {
                output::json(&json!({
                    "action": action, "namespace": namespace, "kind": kind, "name": name, "reason": reason,
                }))?;
            }
            output::json(&json!({ "freed": size, "objects": count, "dry_run": self.dry_run }))?;
            Failure::all(failures)?;
            return Ok(ExitCode::SUCCESS);
        }
        output::table(&table)?;
        let verb = if self.dry_run { "would free" } else { "freed" };
        let noun = if count == 1 { "object" } else { "objects" };
        output::line(format!("{verb} {} in {count} {noun}", output::bytes(size)))?;
        Failure::all(failures)?;
        Ok(ExitCode::SUCCESS)
    }

    fn takes_images(&self, namespace: &str) -> bool {
        self.images && (!self.namespace.is_empty() || namespace == default_namespace())
    }
}

fn cells(action: &str, namespace: &str, fate: &Fate) -> [String; 5] {
    let [action, namespace, kind] = [action, namespace, fate.node.kind()].map(str::to_owned);
    [action, namespace, kind, fate.node.name(), fate.why.clone()]
}

/// Blobs, snapshots and writes that nothing holds then, and their bytes. A blob that another namespace keeps is no gain.
fn freed(plans: &[Plan]) -> (usize, u64) {
    let mut kept = BTreeSet::new();
    for plan in plans {
        let held = plan.survey.graph.holders(&plan.gone());
        kept.extend(held.into_keys().filter(|node| matches!(node, Node::Content(_))).cloned());
    }
    let mut files: BTreeMap<(&str, &Node), u64> = BTreeMap::new();
    for plan in plans {
        for node in plan.freed() {
            let namespace = match node {
                Node::Content(_) if kept.contains(node) => continue,
                // The same file in all namespaces.
                Node::Content(_) => "",
                Node::Snapshot { .. } | Node::Write(_) => plan.survey.namespace.as_str(),
                _ => continue,
            };
            files.insert((namespace, node), plan.survey.graph.size(std::iter::once(node)));
        }
    }
    (files.len(), files.values().sum())
}

async fn remove(client: &Client, plan: &Plan, fate: &Fate) -> Result<(), Failure> {
    let survey = &plan.survey;
    let namespace = &survey.namespace;
    match &fate.node {
        Node::Container(id) => {
            let Some(container) = survey.containers.iter().find(|it| it.id == *id) else {
                return Ok(());
            };
            let removed = Containers::of(client, namespace).remove_if_ended(container).await?;
            let in_use = || Failure::new(format!("container {id} has just been started"));
            removed.then_some(()).ok_or_else(in_use)
        }
        Node::Lease(id) => leases::delete(client, namespace, id).await,
        Node::Write(reference) => Blobs::of(client).abort(namespace, reference).await,
        Node::Image(name) => {
            let Some(image) = survey.images.iter().find(|it| it.name == *name) else {
                return Ok(());
            };
            // One that was made since the survey, or that could not be removed.
            let containers = Containers::of(client, namespace).list().await?;
            if let Some(user) = user(&containers, name) {
                let problem = format!("container {} is made of image {name}", user.id);
                return Err(Failure::new(problem));
            }
            Images::of(client, namespace).delete(image).await
        }
        Node::Content(_) | Node::Snapshot { .. } => Ok(()),
    }
}

/// Removes what is left in this user's directories, and has the server collect what nothing holds; all that failed.
async fn finish(client: &Client, server: &Path, plans: &[Plan]) -> Vec<Failure> {
    pipe_dirs::sweep();
    bundles::sweep(client, server).await;
    let mut failures = Vec::new();
    for plan in plans {
        let namespace = &plan.survey.namespace;
        let containers = Containers::of(client, namespace);
        for id in TaskDir::all(namespace) {
            failures.extend(remove_dir(&containers, &id).await.err());
        }
    }
    if let Some(plan) = plans.first() {
        failures.extend(leases::collect(client, &plan.survey.namespace).await.err());
    }
    failures
}

/// Removes the directory of a container that is gone.
async fn remove_dir(containers: &Containers, id: &str) -> Result<(), Failure> {
    // That of a container which is there is not even locked: somebody may want to attach to it.
    if containers.find(id).await?.is_some() {
        return Ok(());
    }
    match TaskDir::claim_unused(containers.namespace(), id)? {
        Some(dir) if containers.find(id).await?.is_none() => dir.remove(),
        _ => Ok(()),
    }
}
