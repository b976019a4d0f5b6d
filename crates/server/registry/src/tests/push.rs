use std::pin::Pin;

use bytes::Bytes;

use super::{registry::say, *};
use crate::{Chunks, Pushed, Source};

/// Content in parts; broken after so many, if that is said.
pub(super) struct Parts(pub(super) Vec<u8>, pub(super) Option<usize>);

impl Source for Parts {
    fn open(&self) -> Pin<Box<dyn Future<Output = Result<Chunks, String>> + Send + '_>> {
        let parts = self.0.chunks(1000).map(|part| Ok(Bytes::copy_from_slice(part)));
        let mut parts: Vec<_> = parts.collect();
        if let Some(broken) = self.1 {
            parts.truncate(broken);
            parts.push(Err("the disk is gone".to_owned()));
        }
        Box::pin(async { Ok(Box::pin(futures_util::stream::iter(parts)) as Chunks) })
    }
}

const UPLOADS: &str = "POST /v2/a/b/blobs/uploads/";

#[tokio::test]
async fn what_is_there_is_not_sent() {
    let registry = Registry::start(|_| say(200)).await;
    let blob = data(5000);
    let pushed = repository(&registry)
        .await
        .push_blob(&remote(LAYER, &blob), None, &Parts(blob, None))
        .await;
    assert_eq!(pushed.unwrap(), Pushed::Existed);
    assert_eq!(registry.lines().len(), 1);
}

#[tokio::test]
async fn what_another_repository_has_is_mounted_or_sent_all_the_same() {
    let blob = data(5000);
    for (answer, pushed) in [(201, Pushed::Mounted), (202, Pushed::Sent), (401, Pushed::Sent)] {
        let registry = Registry::start(move |asked| match asked.line.as_str() {
            UPLOADS if asked.query.contains("mount=") => say(answer).header("location", "/never"),
            UPLOADS => say(202).header("location", "/up"),
            "PUT /up" => say(201),
            _ => say(404),
        })
        .await;
        let of = remote(LAYER, &blob);
        let done = repository(&registry)
            .await
            .push_blob(&of, Some("c/d"), &Parts(blob.clone(), None))
            .await;
        assert_eq!(done.unwrap(), pushed);
        let mount = &registry.asked()[1];
        assert_eq!(mount.query, format!("mount={}&from=c/d", of.digest));
        assert_eq!(mount.header("content-length"), "0");
    }
}

#[tokio::test]
async fn an_upload_begins_anew_until_it_arrives() {
    let blob = data(5000);
    let of = remote(LAYER, &blob);
    let registry = Registry::start(|asked| match (asked.line.as_str(), asked.count) {
        (UPLOADS, count) => say(202).header("location", format!("/up{count}?state=a%2Fb")),
        ("PUT /up0", _) => say(503),
        ("PUT /up1", _) => say(429).header("retry-after", 0),
        ("PUT /up2", _) => {
            say(201).header("docker-content-digest", remote(LAYER, &asked.body).digest)
        }
        _ => say(404),
    })
    .await;
    let pushed = repository(&registry).await.push_blob(&of, None, &Parts(blob.clone(), None)).await;
    assert_eq!(pushed.unwrap(), Pushed::Sent);
    let asked = registry.asked();
    let last = asked.last().unwrap();
    assert_eq!((last.line.as_str(), &last.body[..]), ("PUT /up2", &blob[..]));
    assert_eq!(last.query, format!("state=a%2Fb&digest={}", of.digest));
    assert_eq!(last.header("content-length"), "5000");
}

#[tokio::test]
async fn content_that_cannot_be_read_is_told_and_sent_no_more() {
    let registry = Registry::start(|asked| match asked.line.as_str() {
        UPLOADS => say(202).header("location", "/up"),
        "PUT /up" => say(201),
        _ => say(404),
    })
    .await;
    let blob = data(5000);
    let of = remote(LAYER, &blob);
    for (source, problem) in [
        (Parts(blob.clone(), Some(2)), "the disk is gone"),
        (Parts(blob[..4000].to_vec(), None), "ends too early"),
    ] {
        let error = repository(&registry)
            .await
            .push_blob(&of, None, &source)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(problem), "{error}");
    }
    assert_eq!(registry.lines().iter().filter(|line| *line == UPLOADS).count(), 2);
}

#[tokio::test]
async fn where_an_upload_leads_nobody_is_told_who_sends() {
    let storage = Registry::start(|_| say(201)).await;
    let elsewhere = format!("http://localhost:{}/up", storage.port());
    let registry = Registry::start(move |asked| match asked.line.as_str() {
        _ if asked.header("authorization").is_empty() => {
            say(401).header("www-authenticate", "Basic realm=\"x\"")
        }
        UPLOADS => say(202).header("location", &elsewhere),
        _ => say(404),
    })
    .await;
    let reference = format!("{}/a/b", registry.host());
    let repository = open(LIMITS, &reference, as_user(password())).await.unwrap();
    let blob = data(5000);
    repository.push_blob(&remote(LAYER, &blob), None, &Parts(blob.clone(), None)).await.unwrap();
    let asked = &storage.asked()[0];
    assert_eq!(asked.body, blob);
    assert!(!asked.headers.contains_key("authorization"));
}

#[tokio::test]
async fn a_registry_that_takes_nothing_is_given_up() {
    let registry = Registry::start(|asked| match asked.line.as_str() {
        UPLOADS => say(202).header("location", "/up"),
        "PUT /up" => say(201).silent(),
        _ => say(404),
    })
    .await;
    let repository = open(IMPATIENT, &format!("{}/a/b", registry.host()), plain()).await.unwrap();
    let blob = data(5000);
    let error =
        repository.push_blob(&remote(LAYER, &blob), None, &Parts(blob, None)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_is_put_under_its_tag_or_its_digest() {
    let manifest = data(500);
    let of = remote(INDEX, &manifest);
    let registry = Registry::start(|asked| match asked.line.starts_with("HEAD") {
        // The tag is that of another image.
        true if asked.line.ends_with("/t") => {
            say(200).header("docker-content-digest", other_digest())
        }
        true => say(404),
        false => say(201).header("docker-content-digest", remote(INDEX, &asked.body).digest),
    })
    .await;
    let repository = repository(&registry).await;
    for (is_named, path) in [(true, "t".to_owned()), (false, of.digest.to_string())] {
        let pushed = repository.push_manifest(&of, manifest.clone().into(), is_named).await;
        assert_eq!(pushed.unwrap(), Pushed::Sent);
        let put = registry.asked().pop().unwrap();
        assert_eq!(put.line, format!("PUT /v2/a/b/manifests/{path}"));
        assert_eq!((put.header("content-type"), &put.body[..]), (INDEX, &manifest[..]));
    }
}

#[tokio::test]
async fn a_registry_that_has_understood_something_else_is_told() {
    let registry = Registry::start(|asked| match asked.line.starts_with("HEAD") {
        true => say(404),
        false => say(201).header("docker-content-digest", other_digest()),
    })
    .await;
    let manifest = data(500);
    let of = remote(INDEX, &manifest);
    let error =
        repository(&registry).await.push_manifest(&of, manifest.into(), true).await.unwrap_err();
    assert!(matches!(&error, RegistryError::Digest { blob, .. } if *blob == of.digest), "{error}");
}
