//! Registries that the server reaches as its environment says.

use gantry_api::containerd::types::transfer::OciRegistry;
use gantry_tests::{Runtime, Server};

use super::{Kind, Registry, any_name, archive, import, named, pull, reference, transfer};
use crate::Bed;

#[tokio::test]
async fn a_registry_is_asked_through_the_proxy_that_the_environment_names() {
    let work = tempfile::tempdir().unwrap();
    // It answers a proxy's requests, too, and nobody else finds the name.
    let Some(registry) = Registry::start(work.path(), Kind::Plain).await else { return };
    let proxy = format!("ann:secret@{}", registry.host());
    let setup = Server::setup(Runtime::Runc)
        .variable("HTTP_PROXY", "")
        .variable("http_proxy", &proxy)
        .variable("HTTPS_PROXY", "http://127.0.0.1:1")
        .variable("NO_PROXY", ".direct.invalid");
    let Some(bed) = Bed::start_with(setup).await else { return };
    let saved = archive::docker(bed.server.work(), &["a:1"]);
    import(&bed, "ns", &saved, &any_name(false)).await.unwrap();
    let far = reference("registry.invalid:5000", "a:v1");
    transfer(&bed, "ns", &named("docker.io/library/a:1"), &far).await.unwrap();
    pull(&bed, "ns", &far).await.unwrap();

    let direct = reference("registry.direct.invalid", "a:v1");
    let error = pull(&bed, "ns", &direct).await.unwrap_err();
    assert!(!error.message().contains("proxy"), "{error}");
    let by_tls = OciRegistry { resolver: None, ..reference("registry.invalid", "a:v1") };
    let error = pull(&bed, "ns", &by_tls).await.unwrap_err();
    assert!(error.message().contains("proxy http://127.0.0.1:1: "), "{error}");
    assert!(!bed.server.log().contains("secret"));
    bed.server.finish().await;
}
