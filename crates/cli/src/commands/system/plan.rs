//! What `gantry system prune` removes of a namespace, what stays, and why.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime},
};

use gantry_api::{
    Timestamp,
    containerd::{containers::Container, images::Image, leases::Lease},
};

use crate::{
    bundles::TaskDir,
    containers::{Containers, DIRECTORY},
    failure::Failure,
    holders::{Node, Survey},
};

/// After so long it is clear that nobody goes on with a write of content.
const ABANDONED_AFTER: Duration = Duration::from_secs(60 * 60);

/// The label and the value of what clients of CRI keep whether or not there is a container of it.
const PINNED: (&str, &str) = ("io.cri-containerd.pinned", "pinned");

/// What becomes of an object.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) node: Node,
    pub(super) goes: bool,
    pub(super) why: String,
}

/// What becomes of a namespace's containers, leases, writes and images.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) survey: Survey,
    pub(super) fates: Vec<Fate>,
}

impl Plan {
    /// With `images`, those that no container is made of go, too.
    pub(super) async fn of(
        survey: Survey,
        containers: &Containers,
        images: bool,
    ) -> Result<Plan, Failure> {
        let mut fates = Vec::new();
        for container in &survey.containers {
            fates.push(of_container(&survey.namespace, containers, container).await?);
        }
        fates.extend(survey.leases.iter().map(|lease| of_lease(&survey.namespace, lease)));
        fates.extend(of_writes(&survey));
        if images {
            let of_images = of_images(&survey, &fates);
            fates.extend(of_images);
        }
        Ok(Plan { survey, fates })
    }

    /// What is removed, without what goes with it.
    pub(super) fn gone(&self) -> BTreeSet<Node> {
        self.fates.iter().filter(|fate| fate.goes).map(|fate| fate.node.clone()).collect()
    }

    /// What nothing holds after that: blobs, snapshots and writes.
    pub(super) fn freed(&self) -> Vec<&Node> {
        let held = self.survey.graph.holders(&self.gone());
        let nodes: Vec<_> =
            self.survey.graph.0.keys().filter(|node| !held.contains_key(node)).collect();
        nodes
    }
}

async fn of_container(
    namespace: &str,
    containers: &Containers,
    container: &Container,
) -> Result<Fate, Failure> {
    let (goes, why) = if !containers.has_ended(&container.id).await? {
        (false, "it runs")
    } else if !containers.is_own(container) {
        (false, "it was not made by this user's `gantry run`")
    } else if !TaskDir::is_unused(namespace, &container.id)? {
        (false, "a gantry command works on it")
    } else {
        (true, "nothing runs in it")
    };
    Ok(Fate { node: Node::Container(container.id.clone()), goes, why: why.to_owned() })
}

fn of_lease(namespace: &str, lease: &Lease) -> Fate {
    let id = lease.labels.get(DIRECTORY).map(Path::new).and_then(|dir| {
        let id = dir.file_name()?.to_str()?;
        (TaskDir::of(namespace, id) == dir).then_some(id)
    });
    let (goes, why) = match id.map(|id| TaskDir::is_unused(namespace, id)) {
        None => (false, "another client's".to_owned()),
        Some(Ok(true)) => (true, "the gantry command that made it is gone".to_owned()),
        Some(Ok(false)) => (false, "a gantry command works under it".to_owned()),
        Some(Err(failure)) => (false, failure.to_string()),
    };
    Fate { node: Node::Lease(lease.id.clone()), goes, why }
}

fn of_writes(survey: &Survey) -> Vec<Fate> {
    let now = SystemTime::now();
    let fate = |write: &gantry_api::containerd::content::Status| {
        let node = Node::Write(write.r#ref.clone());
        let age = age(write.updated_at, now);
        let (goes, why) = match leases_of(survey, &node).next() {
            Some(lease) => (false, format!("lease {} holds it", lease.id)),
            None if age >= ABANDONED_AFTER => {
                (true, "nobody has gone on with it for an hour".to_owned())
            }
            None => (false, "somebody may go on with it".to_owned()),
        };
        Fate { node, goes, why }
    };
    survey.writes.iter().map(fate).collect()
}

/// The leases that name an object.
fn leases_of<'a>(survey: &'a Survey, node: &'a Node) -> impl Iterator<Item = &'a Lease> {
    survey.leases.iter().filter(move |lease| {
        let lease = survey.graph.0.get(&Node::Lease(lease.id.clone()));
        lease.is_some_and(|lease| lease.refers.contains(node))
    })
}

fn age(since: Option<Timestamp>, now: SystemTime) -> Duration {
    let since = since.and_then(|since| SystemTime::try_from(since).ok()).unwrap_or(now);
    now.duration_since(since).unwrap_or(Duration::ZERO)
}

fn of_images(survey: &Survey, fates: &[Fate]) -> Vec<Fate> {
    let goes = |node: Node| fates.iter().any(|fate| fate.goes && fate.node == node);
    let fate = |image: &Image| {
        let node = Node::Image(image.name.clone());
        let staying = survey.containers.iter().filter(|it| !goes(Node::Container(it.id.clone())));
        let lease = leases_of(survey, &node).find(|it| !goes(Node::Lease(it.id.clone())));
        let (goes, why) = match (user(staying, &image.name), lease) {
            (Some(user), _) => (false, format!("container {} is made of it", user.id)),
            (None, Some(lease)) => (false, format!("lease {} holds it", lease.id)),
            (None, None) if image.labels.get(PINNED.0).is_some_and(|it| it == PINNED.1) => {
                (false, "it is pinned".to_owned())
            }
            (None, None) => (true, "no container is made of it".to_owned()),
        };
        Fate { node, goes, why }
    };
    survey.images.iter().map(fate).collect()
}

/// The first container that is made of an image.
pub(super) fn user<'a>(
    containers: impl IntoIterator<Item = &'a Container>,
    image: &str,
) -> Option<&'a Container> {
    containers.into_iter().find(|container| container.image == image)
}
