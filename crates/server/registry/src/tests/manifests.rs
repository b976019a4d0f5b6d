use http::StatusCode;

use super::{registry::say, *};

#[tokio::test]
async fn a_tag_is_resolved_by_what_the_registry_says() {
    let digest = other_digest();
    let registry = Registry::start({
        let digest = digest.clone();
        move |_| {
            let said = say(200).header("content-type", format!("{INDEX}; charset=utf-8")).length(7);
            said.header("docker-content-digest", &digest)
        }
    })
    .await;
    let found = repository(&registry).await.resolve().await.unwrap();
    assert_eq!(found, Remote { media_type: INDEX.to_owned(), digest, size: 7, urls: vec![] });
    let asked = &registry.asked()[0];
    assert_eq!((asked.line.as_str(), asked.query.as_str()), ("HEAD /v2/a/b/manifests/t", ""));
    assert!(asked.header("accept").contains(INDEX));
}

#[tokio::test]
async fn a_registry_that_says_no_digest_or_knows_no_head_is_read() {
    let manifest = data(1000);
    let body = manifest.clone();
    let registry = Registry::start(move |asked| match asked.line.starts_with("HEAD") {
        true => say(405),
        false => say(200).header("content-type", INDEX).data(body.clone()),
    })
    .await;
    let found = repository(&registry).await.resolve().await.unwrap();
    assert_eq!(found, remote(INDEX, &manifest));
}

#[tokio::test]
async fn a_digest_that_lies_is_told() {
    let manifest = data(1000);
    let body = manifest.clone();
    let registry = Registry::start(move |asked| {
        let said = say(200).header("content-type", INDEX).data(body.clone());
        if asked.line.starts_with("HEAD") {
            said.header("docker-content-digest", other_digest())
        } else {
            said
        }
    })
    .await;
    let wanted = format!("sha256:{}", "a".repeat(64));
    let reference = format!("{}/a/b@{wanted}", registry.host());
    let error = open(LIMITS, &reference, plain()).await.unwrap().resolve().await.unwrap_err();
    let RegistryError::Digest { blob, actual, .. } = &error else { panic!("{error}") };
    assert_eq!((blob.as_str(), actual), (&*wanted, &other_digest()));
    assert!(error.to_string().contains(&wanted) && error.to_string().contains(actual.as_str()));
    let wrong = Remote { digest: other_digest(), ..remote(INDEX, &manifest) };
    let error = repository(&registry).await.manifest(&wrong).await.unwrap_err();
    assert!(
        matches!(&error, RegistryError::Digest { blob, .. } if *blob == other_digest()),
        "{error}"
    );
    let right = remote(INDEX, &manifest);
    assert_eq!(repository(&registry).await.manifest(&right).await.unwrap(), manifest);
}

#[tokio::test]
async fn a_manifest_without_end_is_not_read() {
    let registry = Registry::start(|asked| {
        let said = say(200).header("content-type", INDEX);
        match asked.line.starts_with("HEAD") {
            true => said.chunked(),
            false => said.data(vec![b' '; 9 << 20]).chunked().stalls(),
        }
    })
    .await;
    let error = repository(&registry).await.resolve().await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { limit: 4_194_304, .. }), "{error}");
    let large = Remote { size: 9 << 20, ..remote(INDEX, b"") };
    let error = repository(&registry).await.manifest(&large).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
    assert_eq!(registry.lines().len(), 2);
}

#[tokio::test]
async fn headers_without_end_are_not_read() {
    let registry = Registry::start(|_| {
        (0..60).fold(say(200), |said, _| said.header("x-long", "x".repeat(4000)))
    })
    .await;
    let error = repository(&registry).await.resolve().await.unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_for_a_bounded_time() {
    let registry = Registry::start(|asked| match (asked.line.as_str(), asked.count) {
        (_, 0) => say(503),
        ("HEAD /v2/a/b/manifests/t", 1) => say(200).breaks().length(5),
        ("HEAD /v2/a/b/manifests/t", 2) => say(429).header("retry-after", 1),
        ("HEAD /v2/a/b/manifests/t", _) => say(200)
            .header("content-type", INDEX)
            .length(5)
            .header("docker-content-digest", other_digest()),
        ("HEAD /v2/a/b/manifests/later", _) => say(429).header("retry-after", 3600),
        _ => say(500).data(r#"{"errors":[{"code":"UNKNOWN","message":"on fire"}]}"#),
    })
    .await;
    let began = std::time::Instant::now();
    let found = repository(&registry).await.resolve().await;
    // The break is behind the answer, which has no body.
    assert!(found.is_err() || registry.lines().len() >= 2);
    let at = async |tag: &str| {
        let reference = format!("{}/a/b:{tag}", registry.host());
        open(LIMITS, &reference, plain()).await.unwrap().resolve().await.unwrap_err()
    };
    let error = at("later").await;
    assert!(
        matches!(error, RegistryError::Status { status: StatusCode::TOO_MANY_REQUESTS, .. }),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(60));
    at("never").await;
    let never = registry.lines().iter().filter(|line| line.ends_with("never")).count();
    assert_eq!(never, 1 + LIMITS.retries as usize);
}

#[tokio::test]
async fn retry_after_is_heeded() {
    let registry = Registry::start(|asked| match asked.count {
        0 => say(429).header("retry-after", 1),
        _ => say(200)
            .header("content-type", INDEX)
            .length(5)
            .header("docker-content-digest", other_digest()),
    })
    .await;
    let began = std::time::Instant::now();
    repository(&registry).await.resolve().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(registry.lines().len(), 2);
}

#[tokio::test]
async fn a_registry_that_says_nothing_is_given_up() {
    let registry = Registry::start(|_| say(200).silent()).await;
    let repository = open(IMPATIENT, &format!("{}/a/b:t", registry.host()), plain()).await.unwrap();
    let error = repository.resolve().await.unwrap_err();
    assert!(error.to_string().contains("no answer for 500ms"), "{error}");
    assert_eq!(registry.lines().len(), 4);
}

#[tokio::test]
async fn what_the_registry_says_of_an_error_is_told_and_a_query_is_not() {
    let registry = Registry::start(|asked| match asked.line.starts_with("HEAD") {
        true => say(405),
        false => say(403).data(r#"{"errors":[{"code":"DENIED","message":"not you"}]}"#),
    })
    .await;
    let error = repository(&registry).await.resolve().await.unwrap_err().to_string();
    let host = registry.host();
    assert_eq!(
        error,
        format!(
            "GET http://{host}/v2/a/b/manifests/t: unexpected status 403 Forbidden: DENIED: not you"
        )
    );
}
