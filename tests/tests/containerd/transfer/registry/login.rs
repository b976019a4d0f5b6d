//! Registries that want to know who asks, and that are asked with TLS.

use std::{fs, path::Path};

use gantry_api::containerd::{
    from_any, to_any,
    types::transfer::{AuthRequest, AuthResponse, AuthType, OciRegistry},
};
use gantry_tests::docker_registry::USER;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::Status;

use super::{
    super::stream::Stream, Kind, Registry, any_name, archive, import, named, pull, reference,
    transfer,
};
use crate::Bed;

/// Answers one question on a stream, and tells which host and image it was about.
async fn answer(mut stream: Stream, secret: &str) -> (String, String) {
    let question = stream.incoming.message().await.unwrap().expect("a question");
    let AuthRequest { host, reference, .. } = from_any(&question).unwrap().expect("a question");
    let answer = AuthResponse {
        auth_type: AuthType::Credentials.into(),
        username: USER.0.to_owned(),
        secret: secret.to_owned(),
        expire_at: None,
    };
    stream.outgoing.send(to_any(&answer)).await.unwrap();
    // Nothing more is asked until the server closes it.
    assert!(stream.incoming.message().await.unwrap().is_none());
    (host, reference)
}

fn with_stream(mut registry: OciRegistry) -> OciRegistry {
    registry.resolver.as_mut().unwrap().auth_stream = "auth".to_owned();
    registry
}

async fn pull_as(
    bed: &Bed,
    from: &OciRegistry,
    secret: &str,
) -> (Result<(), Status>, (String, String)) {
    let stream = Stream::open(bed, "ns", "auth").await.unwrap();
    tokio::join!(pull(bed, "ns", from), answer(stream, secret))
}

#[tokio::test]
async fn credentials_are_asked_for_on_the_callers_stream() {
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Login).await else { return };
    let Some(bed) = Bed::start().await else { return };
    let saved = archive::docker(bed.server.work(), &["a:1"]);
    import(&bed, "ns", &saved, &any_name(false)).await.unwrap();
    let (from, open) = (named("docker.io/library/a:1"), reference(&registry.host(), "a:v1"));
    let refused = transfer(&bed, "ns", &from, &open).await.unwrap_err();
    assert!(refused.message().contains("no basic auth credentials"), "{refused}");
    let to = with_stream(open.clone());
    let stream = Stream::open(&bed, "ns", "auth").await.unwrap();
    let (done, asked) = tokio::join!(transfer(&bed, "ns", &from, &to), answer(stream, USER.1));
    done.unwrap();
    assert_eq!(asked, (registry.host(), to.reference.clone()));

    let (done, _) = pull_as(&bed, &to, "wrong").await;
    let refused = done.unwrap_err();
    assert!(refused.message().contains("the credentials are refused"), "{refused}");
    let (done, asked) = pull_as(&bed, &to, USER.1).await;
    done.unwrap();
    assert_eq!(asked.0, registry.host());
    // A caller that closes the stream instead.
    let mut stream = Stream::open(&bed, "ns", "auth").await.unwrap();
    let closing = async {
        stream.incoming.message().await.unwrap().expect("a question");
        drop(stream);
    };
    let (done, ()) = tokio::join!(pull(&bed, "ns", &to), closing);
    let refused = done.unwrap_err();
    assert!(
        refused.message().contains(&format!("no credentials for {}", registry.host())),
        "{refused}"
    );
    bed.server.finish().await;
}

/// Writes a certificate for `localhost`, its key, and the authority that signed it.
fn certify(directory: &Path) {
    fs::create_dir_all(directory).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    fs::write(directory.join("ca.pem"), authority.pem()).unwrap();
    fs::write(directory.join("server.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn the_authority_of_a_registry_is_found_in_its_directory() {
    let work = tempfile::tempdir().unwrap();
    certify(work.path());
    let Some(registry) = Registry::start(work.path(), Kind::Tls).await else { return };
    let Some(bed) = Bed::start().await else { return };
    let saved = archive::docker(bed.server.work(), &["a:1"]);
    import(&bed, "ns", &saved, &any_name(false)).await.unwrap();
    let host = format!("localhost:{}", registry.port());
    let mut to = reference(&host, "a:v1");
    let resolver = to.resolver.as_mut().unwrap();
    resolver.default_scheme = "https".to_owned();
    let hosts = work.path().join("certs.d");
    resolver.host_dir = hosts.display().to_string();
    let from = named("docker.io/library/a:1");
    let refused = transfer(&bed, "ns", &from, &to).await.unwrap_err();
    assert!(refused.message().contains("certificate"), "{refused}");
    // A mirror that is away is passed over.
    fs::create_dir_all(hosts.join(&host)).unwrap();
    let text = format!(
        "server = \"https://{host}\"\nca = \"../../ca.pem\"\n[host.\"http://127.0.0.1:9\"]\ncapabilities = [\"pull\", \"resolve\"]\n"
    );
    fs::write(hosts.join(&host).join("hosts.toml"), text).unwrap();
    transfer(&bed, "ns", &from, &to).await.unwrap();
    pull(&bed, "ns", &to).await.unwrap();
    // As a port of this machine whose scheme nobody says.
    let mut unsaid = to.clone();
    unsaid.resolver = Some(Default::default());
    pull(&bed, "other", &unsaid).await.unwrap();
    bed.server.finish().await;
}
