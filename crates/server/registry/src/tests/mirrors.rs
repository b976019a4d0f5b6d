use std::fs;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{registry::say, *};

/// Settings with this file for all registries.
fn with_file(text: &str) -> (tempfile::TempDir, Settings) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("_default")).unwrap();
    fs::write(root.path().join("_default/hosts.toml"), text).unwrap();
    let settings = Settings { host_dir: Some(root.path().to_owned()), ..Settings::default() };
    (root, settings)
}

#[tokio::test]
async fn mirrors_are_asked_in_their_order_and_told_for_whom_they_stand() {
    let blob = data(100);
    let of = remote(LAYER, &blob);
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let busy = Registry::start(|_| say(503)).await;
    let wrong = Registry::start(|_| say(200).data("x")).await;
    let body = blob.clone();
    let good = Registry::start(move |_| say(200).data(body.clone())).await;
    let (_root, settings) = with_file(&format!(
        "server = \"http://{gone}\"\n[host.\"http://{gone}\"]\n[host.\"http://{}\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n\
         [host.\"http://{}/sub\"]\noverride_path = true\n[host.\"http://{}/sub\".header]\nx-key = \"1\"\n",
        busy.host(),
        wrong.host(),
        good.host(),
        good.host(),
    ));
    let repository = open(LIMITS, "registry.example/a/b:t", settings).await.unwrap();
    assert_eq!(read(&repository, &of, 0).await.unwrap(), blob);
    // A host that is not the last one is not waited for.
    assert_eq!((busy.lines().len(), wrong.lines().len()), (1, 1));
    let asked = &good.asked()[0];
    assert_eq!(asked.line, format!("GET /sub/a/b/blobs/{}", of.digest));
    assert_eq!((asked.query.as_str(), asked.header("x-key")), ("ns=registry.example", "1"));
}

#[tokio::test]
async fn a_host_is_asked_only_for_what_it_can() {
    let mirror = Registry::start(|_| say(200)).await;
    let server = Registry::start(|_| {
        say(200)
            .header("content-type", INDEX)
            .length(5)
            .header("docker-content-digest", other_digest())
    })
    .await;
    let (_root, settings) = with_file(&format!(
        "server = \"http://{}\"\ncapabilities = [\"pull\", \"resolve\"]\n[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n",
        server.host(),
        mirror.host(),
    ));
    let repository = open(LIMITS, "registry.example/a/b:t", settings).await.unwrap();
    repository.resolve().await.unwrap();
    assert_eq!((mirror.lines().len(), server.lines().len()), (0, 1));
    let error = repository.push_manifest(&remote(INDEX, b""), "".into(), true).await.unwrap_err();
    assert_eq!(error.to_string(), "no host of registry.example is configured to push: not found");
}

#[tokio::test]
async fn of_all_errors_the_one_that_says_most_is_told() {
    let none = Registry::start(|_| say(404)).await;
    let denied = Registry::start(|_| say(403)).await;
    let (_root, settings) = with_file(&format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        none.host(),
        denied.host(),
    ));
    let repository = open(LIMITS, "registry.example/a/b:t", settings).await.unwrap();
    let error = repository.resolve().await.unwrap_err().to_string();
    assert!(error.contains("403"), "{error}");
}

#[tokio::test]
async fn more_headers_than_can_be_sent_are_refused() {
    const MOST: usize = 24_576;
    let registry =
        Registry::start(|_| say(401).header("www-authenticate", "Basic realm=\"x\"")).await;
    let (_root, settings) =
        with_file(&format!("server = \"http://{}\"\n[header]\nx-one = \"1\"", registry.host()));
    let mut headers = HeaderMap::new();
    for n in 0..MOST {
        let name = HeaderName::try_from(format!("h-{n}")).unwrap();
        headers.try_append(name, HeaderValue::from_static("1")).unwrap();
    }
    let settings = Settings { headers, ..settings };
    let error = open(LIMITS, "registry.example/a/b:t", settings).await.map(drop).unwrap_err();
    assert!(matches!(error, RegistryError::Header { .. }), "{error}");
    assert_eq!(error.kind(), Some(gantry_domain::Kind::InvalidArgument));
}

#[tokio::test]
async fn behind_a_mirror_whose_answers_break_off_the_next_host_is_asked() {
    let blob = data(1000);
    let of = remote(LAYER, &blob);
    let broken = Registry::start(|_| say(200).data(data(400)).length(1000).breaks()).await;
    let body = blob.clone();
    let good = Registry::start(move |asked| match asked.header("range") {
        "bytes=400-" => {
            say(206).header("content-range", "bytes 400-999/1000").data(body[400..].to_vec())
        }
        _ => say(404),
    })
    .await;
    let (_root, settings) = with_file(&format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\n",
        good.host(),
        broken.host(),
    ));
    let repository = open(LIMITS, "registry.example/a/b:t", settings).await.unwrap();
    assert_eq!(read(&repository, &of, 0).await.unwrap(), blob);
    assert_eq!((broken.lines().len(), good.lines().len()), (1, 1));
}

#[tokio::test]
async fn a_host_is_waited_for_as_long_as_its_dial_timeout_says() {
    let silent = Registry::start(|_| say(200).silent()).await;
    let (_root, settings) =
        with_file(&format!("server = \"http://{}\"\ndial_timeout = \"150ms\"", silent.host()));
    let limits = Limits { retries: 0, ..IMPATIENT };
    let repository = open(limits, "registry.example/a/b:t", settings).await.unwrap();
    let error = repository.resolve().await.unwrap_err().to_string();
    assert!(error.contains("no answer for 650ms"), "{error}");
}
