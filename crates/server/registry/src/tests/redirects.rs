use http::HeaderValue;

use super::{registry::say, *};

#[tokio::test]
async fn another_host_is_told_no_secret() {
    let blob = data(1000);
    let of = remote(LAYER, &blob);
    let body = blob.clone();
    let storage = Registry::start(move |_| {
        say(206).header("content-range", "bytes 100-999/1000").data(body[100..].to_vec())
    })
    .await;
    let elsewhere = format!("http://localhost:{}/store?signature=1", storage.port());
    let registry = Registry::start(move |asked| {
        if asked.header("authorization").is_empty() {
            say(401).header("www-authenticate", "Basic realm=\"x\"")
        } else if asked.line.ends_with("/again") {
            say(307).header("location", &elsewhere)
        } else {
            say(302).header("location", "/again")
        }
    })
    .await;
    let mut settings = as_user(password());
    settings.headers.insert("x-key", HeaderValue::from_static("secret"));
    settings.headers.insert("user-agent", HeaderValue::from_static("mine"));
    let repository = open(LIMITS, &format!("{}/a/b", registry.host()), settings).await.unwrap();
    assert_eq!(read(&repository, &of, 100).await.unwrap(), blob[100..]);
    let asked = registry.asked();
    assert_eq!(asked.len(), 3);
    for asked in &asked[1..] {
        assert!(asked.header("authorization").starts_with("Basic "));
        assert_eq!(
            (asked.header("x-key"), asked.headers.get_all("user-agent").iter().count()),
            ("secret", 1)
        );
    }
    let asked = &storage.asked()[0];
    assert_eq!((asked.line.as_str(), asked.query.as_str()), ("GET /store", "signature=1"));
    assert_eq!(asked.header("range"), "bytes=100-");
    assert!(!asked.headers.contains_key("authorization") && !asked.headers.contains_key("x-key"));
}

#[tokio::test]
async fn a_circle_has_an_end() {
    let registry = Registry::start(|_| say(302).header("location", "/again?token=secret")).await;
    let error =
        read(&repository(&registry).await, &remote(LAYER, b"x"), 0).await.unwrap_err().to_string();
    assert!(error.contains("more than 10 times") && !error.contains("secret"), "{error}");
    assert_eq!(registry.lines().len(), 11);
}

#[tokio::test]
async fn what_leads_nowhere_is_told() {
    for location in ["ftp://a/b", "http://"] {
        let registry = Registry::start(move |_| say(302).header("location", location)).await;
        let error = read(&repository(&registry).await, &remote(LAYER, b"x"), 0).await.unwrap_err();
        assert!(matches!(error, RegistryError::Answer { .. }), "{error}");
    }
}
