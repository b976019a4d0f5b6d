//! What the server consists of: the plugins that clients look for, by their names in containerd.

use std::{borrow::Cow, collections::BTreeMap};

use gantry_api::containerd::{
    from_any,
    introspection::{
        Plugin, PluginInfoRequest, PluginInfoResponse, PluginsRequest, PluginsResponse,
        ServerResponse, introspection_server,
    },
    rpc, to_any,
    types::{Platform, RuntimeRequest},
};
use gantry_snapshots::Snapshotter;
use gantry_store::filter;
use tonic::{Code, Request, Response, Status};

use super::{Surface, request, restart, runtime_info, tasks};
use crate::rpc::BadField;

const RUNTIME: &str = "io.containerd.runtime.v2";
const CONTENT: &str = "io.containerd.content.v1";
const SNAPSHOTTER: &str = "io.containerd.snapshotter.v1";
const DIFFER: &str = "io.containerd.differ.v1";
const METADATA: &str = "io.containerd.metadata.v1";
const MONITOR: &str = "io.containerd.monitor.container.v1";
const SERVICE: &str = "io.containerd.service.v1";
const STREAMING: &str = "io.containerd.streaming.v1";
const TRANSFER: &str = "io.containerd.transfer.v1";
const GRPC: &str = "io.containerd.grpc.v1";

/// Type and id of each plugin, and the types that it requires.
const PLUGINS: &[(&str, &str, &[&str])] = &[
    (RUNTIME, "task", &[]),
    (CONTENT, "content", &[]),
    (SNAPSHOTTER, "native", &[]),
    (SNAPSHOTTER, "overlayfs", &[]),
    (DIFFER, "walking", &[METADATA]),
    (MONITOR, "restart", &[SERVICE]),
    (SERVICE, "containers-service", &[]),
    (SERVICE, "content-service", &[CONTENT]),
    (SERVICE, "diff-service", &[DIFFER]),
    (SERVICE, "images-service", &[]),
    (SERVICE, "introspection-service", &[]),
    (SERVICE, "leases-service", &[]),
    (SERVICE, "namespaces-service", &[]),
    (SERVICE, "snapshots-service", &[SNAPSHOTTER]),
    (SERVICE, "tasks-service", &[RUNTIME]),
    (STREAMING, "manager", &[METADATA]),
    (TRANSFER, "local", &[METADATA, DIFFER, SNAPSHOTTER]),
    (GRPC, "containers", &[SERVICE]),
    (GRPC, "content", &[SERVICE]),
    (GRPC, "diff", &[SERVICE]),
    (GRPC, "events", &[]),
    (GRPC, "healthcheck", &[]),
    (GRPC, "images", &[SERVICE]),
    (GRPC, "introspection", &[SERVICE]),
    (GRPC, "leases", &[SERVICE]),
    (GRPC, "namespaces", &[SERVICE]),
    (GRPC, "snapshots", &[SERVICE]),
    (GRPC, "streaming", &[STREAMING]),
    (GRPC, "tasks", &[SERVICE]),
    (GRPC, "transfer", &[TRANSFER, STREAMING]),
    (GRPC, "version", &[]),
];

/// The capability of a snapshotter whose mounts map ids, by which clients do not change owners themselves.
const REMAP_IDS: &str = "remap-ids";

/// The service.
pub(super) struct Introspection(pub(super) Surface);

#[tonic::async_trait]
impl introspection_server::Introspection for Introspection {
    async fn plugins(
        &self,
        request: Request<PluginsRequest>,
    ) -> Result<Response<PluginsResponse>, Status> {
        let filters = request::filters(&request.get_ref().filters)?;
        let mut plugins = self.plugins_there_are().await;
        plugins.retain(|plugin| filters.matches(&|path| field(plugin, path)));
        Ok(Response::new(PluginsResponse { plugins }))
    }

    async fn server(&self, _request: Request<()>) -> Result<Response<ServerResponse>, Status> {
        let identity = self.0.identity().await;
        Ok(Response::new(ServerResponse {
            uuid: identity.uuid.clone(),
            pid: identity.pid.into(),
            pidns: identity.pid_namespace,
            deprecations: Vec::new(),
        }))
    }

    async fn plugin_info(
        &self,
        request: Request<PluginInfoRequest>,
    ) -> Result<Response<PluginInfoResponse>, Status> {
        let PluginInfoRequest { r#type: kind, id, options } = request.into_inner();
        let mut plugins = self.plugins_there_are().await.into_iter();
        let plugin = plugins.find(|plugin| plugin.r#type == kind && plugin.id == id);
        let Some(plugin) = plugin else {
            return Err(Status::not_found(format!("plugin {kind}.{id} not found")));
        };
        let Some(options) = options else {
            return Ok(Response::new(PluginInfoResponse { plugin: Some(plugin), extra: None }));
        };
        if kind != RUNTIME {
            let message = format!("{kind}.{id} does not provide plugin info: not implemented");
            return Err(Status::unimplemented(message));
        }
        let asked = from_any::<RuntimeRequest>(&options);
        let asked = asked.map_err(|error| BadField::new("options", error.to_string()))?;
        let Some(asked) = asked else {
            let kind = options.type_url;
            return Err(Status::unimplemented(format!(
                "unknown request type {kind:?}: must be a containerd.types.RuntimeRequest: not implemented"
            )));
        };
        let info = runtime_info::of(self.0.supervisor().await, asked).await?;
        Ok(Response::new(PluginInfoResponse { plugin: Some(plugin), extra: Some(to_any(&info)) }))
    }
}

impl Introspection {
    /// With what is to be said of snapshotters.
    async fn plugins_there_are(&self) -> Vec<Plugin> {
        let mut plugins: Vec<Plugin> = plugins().collect();
        let snapshots = self.0.snapshots().await;
        for plugin in plugins.iter_mut().filter(|plugin| plugin.r#type == SNAPSHOTTER) {
            let problem = match &snapshots {
                Ok(snapshots) => {
                    let all = snapshots.all();
                    let found = all.into_iter().find(|found| found.name() == plugin.id);
                    let root = found.map(Snapshotter::root).unwrap_or_default();
                    plugin.exports.insert("root".to_owned(), root);
                    if found.is_some_and(Snapshotter::maps_ids) {
                        plugin.capabilities.push(REMAP_IDS.to_owned());
                    }
                    found.and_then(Snapshotter::problem)
                }
                Err(error) => Some(error.message()),
            };
            plugin.init_err = problem.map(|problem| rpc::Status {
                code: Code::Unknown.into(),
                message: problem.to_owned(),
                details: Vec::new(),
            });
        }
        plugins
    }
}

fn plugins() -> impl Iterator<Item = Plugin> {
    PLUGINS.iter().map(|(kind, id, requires)| Plugin {
        r#type: (*kind).to_owned(),
        id: (*id).to_owned(),
        requires: requires.iter().map(|kind| (*kind).to_owned()).collect(),
        platforms: if [RUNTIME, SNAPSHOTTER, DIFFER].contains(kind) {
            vec![platform()]
        } else {
            Vec::new()
        },
        exports: exports(kind),
        capabilities: capabilities(kind),
        init_err: None,
    })
}

/// Where the output of tasks can go, for clients that write it with `binary-v2`.
fn exports(kind: &str) -> BTreeMap<String, String> {
    let schemes = || ("log-uri-schemes".to_owned(), tasks::SCHEMES.join(","));
    (kind == RUNTIME).then(schemes).into_iter().collect()
}

/// nerdctl looks here for the restart policies that it can use.
fn capabilities(kind: &str) -> Vec<String> {
    let policies = restart::POLICIES.into_iter().filter(|_| kind == MONITOR);
    policies.map(str::to_owned).collect()
}

/// The host's platform, as the OCI image specification names it.
fn platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "x86" => ("386", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        other => (other, ""),
    };
    Platform {
        os: "linux".to_owned(),
        architecture: architecture.to_owned(),
        variant: variant.to_owned(),
        ..Platform::default()
    }
}

/// The fields by which plugins are listed.
fn field<'a>(plugin: &'a Plugin, path: &[String]) -> Option<Cow<'a, str>> {
    match path[0].as_str() {
        "type" => filter::field(&plugin.r#type),
        "id" => filter::field(&plugin.id),
        _ => None,
    }
}
