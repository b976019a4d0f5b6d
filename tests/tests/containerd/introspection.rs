//! What the server says of itself.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt};

use gantry_api::containerd::{
    from_any,
    introspection::{PluginInfoRequest, PluginsRequest},
    runc::Options,
    to_any, type_url,
    types::{RuntimeInfo, RuntimeRequest},
};
use gantry_tests::{Runtime, Server};
use prost_types::Any;
use tonic::{Code, Status};

use crate::{Bed, any, assert_refused};

async fn plugins(bed: &Bed, filters: &[&str]) -> Vec<(String, String)> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let answer = bed.introspection().plugins(PluginsRequest { filters }).await.unwrap();
    let plugins = answer.into_inner().plugins;
    assert!(plugins.iter().all(|plugin| plugin.init_err.is_none()));
    plugins.into_iter().map(|plugin| (plugin.r#type, plugin.id)).collect()
}

#[tokio::test]
async fn the_version_is_of_a_containerd_with_transfer() {
    let Some(bed) = Bed::start().await else { return };
    let version = bed.version().version(()).await.unwrap().into_inner().version;
    let (containerd, gantry) = version.split_once("+gantry").unwrap();
    assert!(containerd.starts_with("2.0."), "{version}");
    assert_eq!(gantry, env!("CARGO_PKG_VERSION"));
    bed.server.finish().await;
}

#[tokio::test]
async fn clients_find_what_is_there_and_nothing_else() {
    let Some(bed) = Bed::start().await else { return };
    let runtime = [("io.containerd.runtime.v2".to_owned(), "task".to_owned())];
    assert_eq!(plugins(&bed, &["type==io.containerd.runtime.v2"]).await, runtime);
    assert_eq!(plugins(&bed, &["type~=|^io.containerd.runtime|, id==task"]).await, runtime);
    let restart = [("io.containerd.monitor.container.v1".to_owned(), "restart".to_owned())];
    assert_eq!(plugins(&bed, &["id==restart"]).await, restart);
    let snapshotters = plugins(&bed, &["type==io.containerd.snapshotter.v1"]).await;
    let snapshotters: Vec<_> = snapshotters.iter().map(|(_, id)| id.as_str()).collect();
    assert_eq!(snapshotters, ["native", "overlayfs"]);
    let grpc = plugins(&bed, &["type==io.containerd.grpc.v1"]).await;
    let grpc: BTreeSet<_> = grpc.iter().map(|(_, id)| id.as_str()).collect();
    for id in [
        "containers",
        "images",
        "introspection",
        "leases",
        "namespaces",
        "snapshots",
        "version",
        "healthcheck",
    ] {
        assert!(grpc.contains(id), "{id} in {grpc:?}");
    }
    let bad = PluginsRequest { filters: vec!["type==".to_owned()] };
    let error = bed.introspection().plugins(bad).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);

    let info = |id: &str| PluginInfoRequest {
        r#type: "io.containerd.runtime.v2".to_owned(),
        id: id.to_owned(),
        options: None,
    };
    let plugin = bed.introspection().plugin_info(info("task")).await.unwrap();
    let plugin = plugin.into_inner().plugin.unwrap();
    assert_eq!(plugin.exports["log-uri-schemes"], "fifo,binary,binary-v2,file");
    assert_eq!(plugin.platforms.len(), 1);
    assert_eq!(plugin.platforms[0].os, "linux");
    let known = [("x86_64", "amd64"), ("aarch64", "arm64")];
    if let Some((_, name)) = known.into_iter().find(|(arch, _)| *arch == std::env::consts::ARCH) {
        assert_eq!(plugin.platforms[0].architecture, name);
    }
    let unknown = bed.introspection().plugin_info(info("none")).await;
    let words = "plugin io.containerd.runtime.v2.none not found";
    assert_refused(unknown, Code::NotFound, words);
    bed.server.finish().await;
}

/// As nerdctl asks before it uses a policy.
#[tokio::test]
async fn restart_policies_are_capabilities() {
    let Some(bed) = Bed::start().await else { return };
    let asked = PluginsRequest { filters: vec!["id==restart".to_owned()] };
    let plugins = bed.introspection().plugins(asked).await.unwrap().into_inner().plugins;
    let policies = ["no", "always", "on-failure", "unless-stopped"];
    assert_eq!(plugins[0].capabilities, policies);
    bed.server.finish().await;
}

fn about_a_runtime(runtime: &str, options: Option<Any>) -> PluginInfoRequest {
    let asked = RuntimeRequest { runtime_path: runtime.to_owned(), options };
    PluginInfoRequest {
        r#type: "io.containerd.runtime.v2".to_owned(),
        id: "task".to_owned(),
        options: Some(to_any(&asked)),
    }
}

#[tokio::test]
async fn a_runtime_says_what_it_can_do() {
    let Some(bed) = Bed::start().await else { return };
    let of = |binary_name: &str| {
        let binary_name = binary_name.to_owned();
        to_any(&Options { binary_name, ..Options::default() })
    };
    let ask = async |name: &str, options: Option<Any>| {
        let answer = bed.introspection().plugin_info(about_a_runtime(name, options)).await?;
        let answer = answer.into_inner();
        assert_eq!(answer.plugin.unwrap().id, "task");
        Ok::<RuntimeInfo, Status>(from_any(&answer.extra.unwrap()).unwrap().unwrap())
    };
    let runc = "io.containerd.runc.v2";
    for options in [None, Some(of("")), Some(of("runc"))] {
        let info = ask(runc, options.clone()).await.unwrap();
        assert_eq!((info.name.as_str(), info.options), (runc, options));
        assert!(info.version.unwrap().version.contains("+gantry"));
        let features = info.features.unwrap();
        assert_eq!(features.type_url, type_url::FEATURES);
        let features: serde_json::Value = serde_json::from_slice(&features.value).unwrap();
        assert!(features["ociVersionMax"].is_string(), "{features}");
    }
    // Debian's crun has no such command.
    if Runtime::Crun.is_installed() {
        assert_eq!(ask(runc, Some(of("crun"))).await.unwrap().features, None);
    }
    let error = ask(runc, Some(of("nosuch"))).await.unwrap_err();
    assert!(error.message().contains("nosuch"), "{error:?}");
    let error = ask("io.containerd.kata.v2", None).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let mut other = about_a_runtime(runc, None);
    other.options = Some(any("a/b", b""));
    let error = bed.introspection().plugin_info(other).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    bed.server.finish().await;
}

#[tokio::test]
async fn a_server_has_a_name_that_stays() {
    let Some(mut bed) = Bed::start().await else { return };
    let first = bed.introspection().server(()).await.unwrap().into_inner();
    assert_eq!(first.pid, u64::from(bed.server.pid()));
    let namespace = fs::metadata(format!("/proc/{}/ns/pid", first.pid)).unwrap().ino();
    assert_eq!((first.pidns, first.deprecations.len()), (namespace, 0));
    bed.server.kill().await;
    bed.server.start_again().await;
    let again = bed.introspection().server(()).await.unwrap().into_inner();
    assert_eq!(again.uuid, first.uuid);
    assert_ne!(again.pid, first.pid);
    let Some(other) = Bed::start_with(Server::setup(Runtime::Runc)).await else { return };
    let of_other = other.introspection().server(()).await.unwrap().into_inner();
    assert_ne!(of_other.uuid, first.uuid);
    other.server.finish().await;
    bed.server.finish().await;
}
