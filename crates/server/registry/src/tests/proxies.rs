//! Registries that are reached through a proxy only.

use std::{
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinHandle,
};

use super::{
    registry::say,
    tls::{authority, issue, server},
    *,
};
use crate::{Fault, Proxies};

/// A name that nobody finds.
const REGISTRY: &str = "registry.invalid";

/// What a proxy does with requests.
#[derive(Clone, Copy)]
enum Way {
    /// Makes connections, whatever the name is, to this address.
    To(SocketAddr),
    /// Says this to every request.
    Says(&'static str),
    Silent,
}

/// A proxy that notes what it is asked, until it is dropped.
struct Proxy {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    server: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    async fn start(way: Way) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&heads);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, way, Arc::clone(&notes)));
            }
        });
        Self { port, heads, server }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    fn address(&self) -> String {
        format!("http://ann:p%40ss@127.0.0.1:{}", self.port)
    }
}

async fn serve(mut stream: TcpStream, way: Way, heads: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    match way {
        Way::To(upstream) => {
            let mut upstream = TcpStream::connect(upstream).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut upstream).await;
        }
        Way::Says(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
        Way::Silent => std::future::pending().await,
    }
}

/// The blob `x` of the registry, with these proxies for http and https, and this `hosts.toml`.
async fn ask(http: &str, https: &str, root: &Path, file: &str) -> Result<Vec<u8>, RegistryError> {
    let directory = root.join(REGISTRY);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("hosts.toml"), file).unwrap();
    let limits = Limits { dial: Duration::from_secs(2), ..LIMITS };
    let registries = Registries::new(limits, Proxies::new(http, https, ""))?;
    let settings =
        Settings { host_dir: Some(root.to_owned()), default_scheme: None, ..as_user(password()) };
    let reference = Reference::parse(&format!("{REGISTRY}/a/b")).unwrap();
    let repository = registries.open(reference, settings).await?;
    read(&repository, &remote(LAYER, b"x"), 0).await
}

#[tokio::test]
async fn a_proxy_of_https_learns_the_hosts_name_only() {
    let root = tempfile::tempdir().unwrap();
    let authority = authority();
    let (certificate, key) = issue(&authority, REGISTRY);
    let registry =
        Registry::start_with(Some(server(&certificate, &key, None)), |asked| {
            match asked.header("authorization") {
                "" => say(401).header("www-authenticate", "Basic realm=\"x\""),
                _ => say(200).data("x"),
            }
        })
        .await;
    fs::write(root.path().join("ca.pem"), authority.pem()).unwrap();
    let file = format!("ca = {:?}", root.path().join("ca.pem"));
    let upstream = registry.host().parse().unwrap();
    let proxy = Proxy::start(Way::To(upstream)).await;
    assert_eq!(ask("", &proxy.address(), root.path(), &file).await.unwrap(), b"x");
    for head in proxy.heads() {
        let lines: Vec<_> = head.trim_end().split("\r\n").collect();
        // ann:p@ss
        let expected = [
            "CONNECT registry.invalid:443 HTTP/1.1",
            "Host: registry.invalid:443",
            "Proxy-Authorization: Basic YW5uOnBAc3M=",
        ];
        assert_eq!(lines, expected);
    }
    let asked = registry.asked();
    assert!(asked.iter().all(|asked| asked.line.starts_with("GET /v2/a/b/blobs/")));
    assert!(asked.iter().all(|asked| !asked.headers.contains_key("proxy-authorization")));
    assert_eq!(asked.len(), 2);
}

#[tokio::test]
async fn a_proxy_of_http_is_told_the_whole_address() {
    let root = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(Way::Says(
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
    ))
    .await;
    let file = format!("server = \"http://{REGISTRY}:5000\"");
    assert_eq!(ask(&proxy.address(), "", root.path(), &file).await.unwrap(), b"x");
    let head = proxy.heads().remove(0);
    let line = format!("GET http://{REGISTRY}:5000/v2/a/b/blobs/sha256:");
    assert!(head.starts_with(&line), "{head}");
    assert!(head.contains("proxy-authorization: Basic YW5uOnBAc3M=\r\n"), "{head}");
}

#[tokio::test]
async fn a_proxy_that_does_not_help_is_named_without_its_password() {
    let root = tempfile::tempdir().unwrap();
    for (way, problem) in [
        (Way::Says("HTTP/1.1 407 No\r\n\r\n"), "proxy authorization required"),
        (Way::Says("HTTP/1.1 503 No\r\n\r\n"), "unsuccessful"),
        (Way::Says("what?\r\n\r\n"), "unsuccessful"),
        (Way::Says(""), "unexpected end of file"),
        (Way::Silent, "no connection after 2s"),
    ] {
        let proxy = Proxy::start(way).await;
        let error = ask("", &proxy.address(), root.path(), "").await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, RegistryError::Transport { fault: Fault::Connect, .. }), "{text}");
        let shown = format!("proxy http://127.0.0.1:{}: ", proxy.port);
        assert!(text.contains(&shown) && text.contains(problem), "{text}");
        assert!(!text.contains("ann") && !text.contains("ss@"), "{text}");
        assert_eq!(proxy.heads().len(), 1, "{text}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_gone_does_not_make_https_http() {
    let root = tempfile::tempdir().unwrap();
    let http = Proxy::start(Way::Silent).await;
    // Nobody listens, and nobody else can have the port.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = format!("http://{}", socket.local_addr().unwrap());
    // Either scheme would do for the host.
    let file = format!("server = \"http://{REGISTRY}\"\nskip_verify = true");
    let error = ask(&http.address(), &gone, root.path(), &file).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(http.heads().is_empty());
}

#[tokio::test]
async fn this_machine_needs_no_proxy() {
    let proxy = Proxy::start(Way::Silent).await;
    let registry = Registry::start(|_| say(200).data("x")).await;
    let proxies = Proxies::new(&proxy.address(), &proxy.address(), "");
    let registries = Registries::new(LIMITS, proxies).unwrap();
    let reference = Reference::parse(&format!("{}/a/b", registry.host())).unwrap();
    let repository = registries.open(reference, plain()).await.unwrap();
    assert_eq!(read(&repository, &remote(LAYER, b"x"), 0).await.unwrap(), b"x");
    assert!(proxy.heads().is_empty());
}
