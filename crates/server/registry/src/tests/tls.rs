use std::{fs, path::Path, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{registry::say, *};
use crate::Fault;

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for this name, and its key.
pub(super) fn issue(authority: &Authority, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

pub(super) fn server(
    certificate: &rcgen::Certificate,
    key: &KeyPair,
    clients: Option<&Authority>,
) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.unwrap())
        }
        None => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
}

/// Asks a registry as `localhost` with this file; what it says.
async fn ask(
    registry: &Registry,
    root: &Path,
    file: Option<&str>,
) -> Result<Vec<u8>, RegistryError> {
    let host = format!("localhost:{}", registry.port());
    let directory = root.join(&host);
    fs::create_dir_all(&directory).unwrap();
    if let Some(file) = file {
        fs::write(directory.join("hosts.toml"), format!("server = \"https://{host}\"\n{file}"))
            .unwrap();
    }
    let settings = Settings { host_dir: Some(root.to_owned()), ..Settings::default() };
    let repository = open(LIMITS, &format!("{host}/a/b"), settings).await?;
    read(&repository, &remote(LAYER, b"x"), 0).await
}

#[tokio::test]
async fn a_registry_is_trusted_by_the_authority_that_is_configured() {
    let root = tempfile::tempdir().unwrap();
    let authority = authority();
    let (certificate, key) = issue(&authority, "localhost");
    let registry =
        Registry::start_with(Some(server(&certificate, &key, None)), |_| say(200).data("x")).await;
    fs::write(root.path().join("ca.pem"), authority.pem()).unwrap();
    fs::write(root.path().join("other.pem"), self::authority().pem()).unwrap();
    let ca = |name: &str| format!("ca = {:?}", root.path().join(name).to_str().unwrap());
    assert_eq!(ask(&registry, root.path(), Some(&ca("ca.pem"))).await.unwrap(), b"x");
    assert_eq!(ask(&registry, root.path(), Some("skip_verify = true")).await.unwrap(), b"x");
    for file in [ca("other.pem"), String::new()] {
        let error = ask(&registry, root.path(), Some(&file)).await.unwrap_err().to_string();
        assert!(error.contains("certificate"), "{error}");
    }
    fs::write(root.path().join("none.pem"), "nothing").unwrap();
    let error = ask(&registry, root.path(), Some(&ca("none.pem"))).await.unwrap_err().to_string();
    assert!(error.contains("none.pem: has no certificate"), "{error}");

    // For another name.
    let (certificate, key) = issue(&authority, "other.example");
    let registry =
        Registry::start_with(Some(server(&certificate, &key, None)), |_| say(200).data("x")).await;
    let error = ask(&registry, root.path(), Some(&ca("ca.pem"))).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn a_registry_that_signs_its_own_certificate_is_trusted_by_that() {
    let root = tempfile::tempdir().unwrap();
    let own = authority();
    let registry =
        Registry::start_with(Some(server(own.as_ref(), own.key(), None)), |_| say(200).data("x"))
            .await;
    fs::write(root.path().join("own.pem"), own.pem()).unwrap();
    fs::write(root.path().join("other.pem"), authority().pem()).unwrap();
    let ca = |name: &str| format!("ca = {:?}", root.path().join(name).to_str().unwrap());
    assert_eq!(ask(&registry, root.path(), Some(&ca("own.pem"))).await.unwrap(), b"x");
    ask(&registry, root.path(), Some(&ca("other.pem"))).await.unwrap_err();
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let root = tempfile::tempdir().unwrap();
    let authority = authority();
    let (certificate, key) = issue(&authority, "localhost");
    let registry = Registry::start_with(Some(server(&certificate, &key, Some(&authority))), |_| {
        say(200).data("x")
    })
    .await;
    let host = root.path().join(format!("localhost_{}_", registry.port()));
    fs::create_dir(&host).unwrap();
    let (certificate, key) = issue(&authority, "client");
    fs::write(host.join("a.crt"), authority.pem()).unwrap();
    fs::write(host.join("b.cert"), certificate.pem()).unwrap();
    fs::write(host.join("b.key"), key.serialize_pem()).unwrap();
    assert_eq!(ask(&registry, root.path(), None).await.unwrap(), b"x");
    fs::remove_file(host.join("b.cert")).unwrap();
    ask(&registry, root.path(), None).await.unwrap_err();
}

#[tokio::test]
async fn a_port_of_this_machine_is_asked_with_tls_or_without_whatever_it_speaks() {
    let root = tempfile::tempdir().unwrap();
    let registry = Registry::start(|asked| match asked.line.ends_with("/home") {
        true => say(200).data("x"),
        // By its own address, which is that without TLS.
        false => say(302).header("location", format!("http://{}/home", asked.header("host"))),
    })
    .await;
    assert_eq!(ask(&registry, root.path(), None).await.unwrap(), b"x");
    let own = authority();
    let registry =
        Registry::start_with(Some(server(own.as_ref(), own.key(), None)), |_| say(200).data("x"))
            .await;
    assert_eq!(ask(&registry, root.path(), None).await.unwrap(), b"x");
}

/// What a peer does that answers TLS's first message with these bytes, or nobody if there are none.
async fn fault_of(answer: &'static [u8]) -> (Fault, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        if answer.is_empty() {
            return;
        }
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(answer).await.unwrap();
        // Until the client has gone.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    if answer.is_empty() {
        server.await.unwrap();
    }
    let settings = Settings { default_scheme: Some(Scheme::Https), ..Settings::default() };
    let repository = open(LIMITS, &format!("{host}/a/b"), settings).await.unwrap();
    let error = read(&repository, &remote(LAYER, b"x"), 0).await.unwrap_err();
    let RegistryError::Transport { fault, .. } = error else { panic!("{error}") };
    (fault, error.to_string())
}

#[tokio::test]
async fn what_is_wrong_with_a_connection_is_told_in_the_words_that_clients_know() {
    let (fault, text) = fault_of(b"").await;
    assert_eq!(fault, Fault::Refused);
    assert!(text.contains("connect: connection refused"), "{text}");
    let (fault, text) = fault_of(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    assert_eq!(fault, Fault::Plain);
    assert!(text.contains("server gave HTTP response to HTTPS client"), "{text}");
    // A record that is a handshake by its type only, and an alert.
    for answer in [&[22, 3, 3, 0, 4, 9, 9, 9, 9][..], &[21, 3, 3, 0, 2, 2, 40]] {
        let (fault, text) = fault_of(answer).await;
        assert_eq!(fault, Fault::Tls, "{text}");
    }
    let own = authority();
    let registry =
        Registry::start_with(Some(server(own.as_ref(), own.key(), None)), |_| say(200)).await;
    let root = tempfile::tempdir().unwrap();
    let error = ask(&registry, root.path(), Some("")).await.unwrap_err();
    assert!(matches!(error, RegistryError::Transport { fault: Fault::Tls, .. }), "{error}");
}
