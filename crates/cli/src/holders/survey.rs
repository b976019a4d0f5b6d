//! Asks the server for everything that a namespace has.

use std::{collections::BTreeMap, time::SystemTime};

use gantry_api::{
    Timestamp,
    containerd::{
        containers::Container,
        content::{ListStatusesRequest, Status as Write, content_client::ContentClient},
        images::Image,
        introspection::{PluginsRequest, introspection_client::IntrospectionClient},
        leases::Lease,
        snapshots::{Info as Snapshot, Kind},
    },
};
use gantry_client::Client;

use super::{
    Graph, Node,
    graph::Object,
    labels::{EXPIRES, FLAT, ROOT, references, referrers, resource},
};
use crate::{
    blobs::Blobs,
    containerd::{LARGEST_MESSAGE, about, failed},
    containers::Containers,
    failure::Failure,
    images::Images,
    leases,
    snapshots::Snapshots,
};

/// What a namespace has.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) namespace: String,
    pub(crate) graph: Graph,
    pub(crate) images: Vec<Image>,
    pub(crate) containers: Vec<Container>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) writes: Vec<Write>,
    /// Committed snapshots; the others are written to.
    pub(crate) layers: Vec<Node>,
}

impl Survey {
    /// What is made or removed meanwhile may be missing.
    pub(crate) async fn of(client: &Client, namespace: &str) -> Result<Survey, Failure> {
        let mut survey = Survey {
            namespace: namespace.to_owned(),
            graph: Graph::default(),
            images: Images::of(client, namespace).list(Vec::new()).await?,
            containers: Containers::of(client, namespace).list().await?,
            leases: leases::list(client, namespace).await?,
            writes: writes(client, namespace).await?,
            layers: Vec::new(),
        };
        let now = Timestamp::from(SystemTime::now());
        survey.add_images(now);
        survey.add_containers();
        survey.add_leases(client, now).await?;
        survey.add_writes();
        for info in Blobs::of(client).list(namespace).await? {
            let object = Object { size: bytes(info.size), ..labelled(&info.labels) };
            survey.add(Node::Content(info.digest), &info.labels, object);
        }
        for snapshotter in snapshotters(client).await? {
            survey.add_snapshots(&Snapshots::of(client, namespace, &snapshotter)).await?;
        }
        Ok(survey)
    }

    /// Adds an object, and to the objects that labels say refer to it that they do.
    fn add(&mut self, node: Node, labels: &BTreeMap<String, String>, object: Object) {
        for referrer in referrers(labels) {
            self.graph.0.entry(referrer).or_default().refers.push(node.clone());
        }
        let known = self.graph.0.entry(node).or_default();
        let mut refers = std::mem::take(&mut known.refers);
        refers.extend(object.refers.iter().cloned());
        *known = Object { refers, ..object };
    }

    fn add_images(&mut self, now: Timestamp) {
        for image in self.images.clone() {
            let is_root = !has_ended(&image.labels, now);
            let above = image.target.map(|target| Node::Content(target.digest));
            let object = Object { is_root, above, ..labelled(&image.labels) };
            self.add(Node::Image(image.name), &image.labels, object);
        }
    }

    fn add_containers(&mut self) {
        for container in self.containers.clone() {
            let Container { id, labels, snapshotter, snapshot_key: key, .. } = container;
            let above = (!key.is_empty()).then_some(Node::Snapshot { snapshotter, key });
            let object = Object { is_root: true, above, ..labelled(&labels) };
            self.add(Node::Container(id), &labels, object);
        }
    }

    async fn add_leases(&mut self, client: &Client, now: Timestamp) -> Result<(), Failure> {
        for lease in self.leases.clone() {
            let resources = leases::resources(client, &self.namespace, &lease.id).await?;
            let named = resources.iter().filter_map(|it| resource(&it.r#type, &it.id));
            let object = Object {
                is_root: !has_ended(&lease.labels, now),
                is_flat: lease.labels.contains_key(FLAT),
                refers: named.collect(),
                ..Object::default()
            };
            self.add(Node::Lease(lease.id), &BTreeMap::new(), object);
        }
        Ok(())
    }

    fn add_writes(&mut self) {
        for write in self.writes.clone() {
            let above = (!write.expected.is_empty()).then_some(Node::Content(write.expected));
            let size = bytes(write.offset);
            let object = Object { size, is_root: true, above, ..Object::default() };
            self.add(Node::Write(write.r#ref), &BTreeMap::new(), object);
        }
    }

    async fn add_snapshots(&mut self, snapshots: &Snapshots) -> Result<(), Failure> {
        for info in snapshots.list().await? {
            // One that was removed meanwhile.
            let Some(size) = snapshots.size(&info.name).await? else { continue };
            let is_layer = info.kind() == Kind::Committed;
            let Snapshot { name: key, parent, labels, .. } = info;
            let node =
                |key| Node::Snapshot { snapshotter: snapshots.snapshotter().to_owned(), key };
            let above = (!parent.is_empty()).then(|| node(parent));
            let object = Object { size, above, ..labelled(&labels) };
            let node = node(key);
            if is_layer {
                self.layers.push(node.clone());
            }
            self.add(node, &labels, object);
        }
        Ok(())
    }
}

/// What labels say of an object.
fn labelled(labels: &BTreeMap<String, String>) -> Object {
    Object { is_root: labels.contains_key(ROOT), refers: references(labels), ..Object::default() }
}

fn has_ended(labels: &BTreeMap<String, String>, now: Timestamp) -> bool {
    let end = labels.get(EXPIRES).and_then(|end| end.parse::<Timestamp>().ok());
    end.is_some_and(|end| (end.seconds, end.nanos) < (now.seconds, now.nanos))
}

fn bytes(size: i64) -> u64 {
    u64::try_from(size).unwrap_or(0)
}

async fn writes(client: &Client, namespace: &str) -> Result<Vec<Write>, Failure> {
    let mut content =
        ContentClient::new(client.channel()).max_decoding_message_size(LARGEST_MESSAGE);
    let listed = content.list_statuses(about(namespace, ListStatusesRequest::default())?).await;
    let what = format!("list the writes of {namespace}");
    Ok(listed.map_err(|status| failed(&what, &status))?.into_inner().statuses)
}

/// The snapshotters that the server has.
async fn snapshotters(client: &Client) -> Result<Vec<String>, Failure> {
    let filters = vec!["type==io.containerd.snapshotter.v1".to_owned()];
    let mut introspection = IntrospectionClient::new(client.channel());
    let found = introspection.plugins(PluginsRequest { filters }).await;
    let plugins = found.map_err(|status| failed("list the snapshotters", &status))?.into_inner();
    let usable = plugins.plugins.into_iter().filter(|plugin| plugin.init_err.is_none());
    Ok(usable.map(|plugin| plugin.id).collect())
}
