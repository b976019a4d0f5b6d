//! `gantry system df`

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use clap::Args;
use gantry_client::Client;
use serde::Serialize;

use super::chosen;
use crate::{
    failure::{Failure, Outcome},
    holders::{Node, Survey},
    output,
};

/// Show what images, containers and writes use, and what holds it
///
/// Sizes are of blobs and of snapshots without their parents. UNHELD is what nothing holds: the server's garbage collection
/// removes that by itself, if it is not just being made. Blobs that several namespaces have are one file, which the total
/// counts once.
#[derive(Debug, Args)]
pub(crate) struct Df {
    /// List every object, with the images, containers and leases that hold it
    #[arg(short, long)]
    verbose: bool,
    /// Print JSON, one object a line
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
    /// Only of this namespace; may be repeated. [default: all namespaces]
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Vec<String>,
}

/// An object as it is printed.
#[derive(Debug, Serialize)]
struct Row<'a> {
    namespace: &'a str,
    kind: &'a str,
    name: String,
    size: u64,
    held_by: Vec<&'a Node>,
}

/// A line of the summary.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    count: usize,
    size: u64,
    unheld: u64,
}

/// The lines of the summary, in order.
const KINDS: [&str; 6] = ["images", "content", "layers", "containers", "snapshots", "writes"];

impl Df {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let mut sums = vec![["NAMESPACE", "KIND", "COUNT", "SIZE", "UNHELD"].map(str::to_owned)];
        let mut objects = vec![["NAMESPACE", "KIND", "NAME", "SIZE", "HELD BY"].map(str::to_owned)];
        let mut files: BTreeMap<Node, u64> = BTreeMap::new();
        let mut total = 0;
        for namespace in chosen(client, &self.namespace).await? {
            let survey = Survey::of(client, &namespace).await?;
            if self.json {
                rows(&survey).iter().try_for_each(output::json)?;
                continue;
            }
            objects.extend(rows(&survey).iter().map(Row::cells));
            for (kind, sum) in KINDS.into_iter().zip(sum(&survey)) {
                sums.push(sum.cells(&namespace, kind));
            }
            for (node, object) in survey.graph.0 {
                match node {
                    Node::Content(_) => drop(files.insert(node, object.size)),
                    _ => total += object.size,
                }
            }
        }
        if self.json {
            return Ok(ExitCode::SUCCESS);
        }
        self.print(&sums, &objects, total + files.values().sum::<u64>())?;
        Ok(ExitCode::SUCCESS)
    }

    fn print(
        &self,
        sums: &[[String; 5]],
        objects: &[[String; 5]],
        total: u64,
    ) -> Result<(), Failure> {
        output::table(sums)?;
        output::line(format!("total: {}", output::bytes(total)))?;
        if self.verbose {
            output::line("")?;
            output::table(objects)?;
        }
        Ok(())
    }
}

/// All objects but containers and leases, which have no bytes of their own.
fn rows(survey: &Survey) -> Vec<Row<'_>> {
    let holders = survey.graph.holders(&BTreeSet::new());
    let objects = survey.graph.0.iter();
    objects
        .filter(|(node, _)| !matches!(node, Node::Lease(_) | Node::Container(_)))
        .map(|(node, object)| Row {
            namespace: &survey.namespace,
            kind: node.kind(),
            name: node.name(),
            size: object.size,
            held_by: holders.get(node).into_iter().flatten().copied().collect(),
        })
        .collect()
}

impl Row<'_> {
    fn cells(&self) -> [String; 5] {
        let held_by: Vec<_> = self.held_by.iter().map(ToString::to_string).collect();
        let held_by = if held_by.is_empty() { "nothing".to_owned() } else { held_by.join(", ") };
        let size = output::bytes(self.size);
        [self.namespace.to_owned(), self.kind.to_owned(), self.name.clone(), size, held_by]
    }
}

impl Sum {
    fn cells(&self, namespace: &str, kind: &str) -> [String; 5] {
        let (count, size) = (self.count.to_string(), output::bytes(self.size));
        [namespace.to_owned(), kind.to_owned(), count, size, output::bytes(self.unheld)]
    }
}

/// A namespace's lines, in the order of [`KINDS`]. The content of images is a part of all content.
fn sum(survey: &Survey) -> [Sum; 6] {
    let graph = &survey.graph;
    let holders = graph.holders(&BTreeSet::new());
    let layers: BTreeSet<_> = survey.layers.iter().collect();
    let written: BTreeSet<_> = survey
        .containers
        .iter()
        .filter_map(|it| graph.0.get(&Node::Container(it.id.clone())))
        .filter_map(|it| it.above.as_ref())
        .collect();
    let of_image = |node: &Node| {
        holders.get(node).is_some_and(|by| by.iter().any(|it| matches!(it, Node::Image(_))))
    };
    let sum = |is_one: &dyn Fn(&Node) -> bool| {
        let nodes: Vec<_> = graph.0.keys().filter(|node| is_one(node)).collect();
        let unheld = nodes.iter().copied().filter(|node| !holders.contains_key(node));
        Sum {
            count: nodes.len(),
            size: graph.size(nodes.iter().copied()),
            unheld: graph.size(unheld),
        }
    };
    let is_content = |node: &Node| matches!(node, Node::Content(_));
    let is_snapshot = |node: &Node| matches!(node, Node::Snapshot { .. });
    let is_other =
        |node: &Node| is_snapshot(node) && !layers.contains(node) && !written.contains(node);
    [
        Sum { count: survey.images.len(), ..sum(&|node| is_content(node) && of_image(node)) },
        sum(&is_content),
        sum(&|node| layers.contains(node)),
        Sum { count: survey.containers.len(), ..sum(&|node| written.contains(node)) },
        sum(&is_other),
        sum(&|node| matches!(node, Node::Write(_))),
    ]
}
