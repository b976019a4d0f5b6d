//! Content that an image names an address of.

use http::HeaderValue;

use super::{registry::say, *};

/// Content that is at these addresses, too.
fn at(data: &[u8], urls: impl IntoIterator<Item = String>) -> Remote {
    Remote { urls: urls.into_iter().collect(), ..remote(LAYER, data) }
}

#[tokio::test]
async fn an_address_is_asked_first_and_told_nothing() {
    let blob = data(1000);
    let body = blob.clone();
    let elsewhere = Registry::start(move |asked| match asked.line.as_str() {
        "GET /moved" => {
            say(206).header("content-range", "bytes 100-999/1000").data(body[100..].to_vec())
        }
        _ => say(302).header("location", "/moved"),
    })
    .await;
    let registry = Registry::start(|_| say(500)).await;
    let mut settings = as_user(password());
    settings.headers.insert("x-key", HeaderValue::from_static("secret"));
    let repository = open(LIMITS, &format!("{}/a/b", registry.host()), settings).await.unwrap();
    let of = at(&blob, [format!("http://{}/layer?signature=1", elsewhere.host())]);
    assert_eq!(read(&repository, &of, 100).await.unwrap(), blob[100..]);
    assert!(registry.asked().is_empty());
    let asked = elsewhere.asked();
    assert_eq!((asked[0].line.as_str(), asked[0].query.as_str()), ("GET /layer", "signature=1"));
    for asked in &asked {
        assert_eq!(asked.header("range"), "bytes=100-");
        for name in ["authorization", "x-key"] {
            assert!(!asked.headers.contains_key(name), "{name}");
        }
    }
}

#[tokio::test]
async fn what_no_address_has_is_the_registrys() {
    let blob = data(1000);
    let body = blob.clone();
    let registry = Registry::start(move |_| say(200).data(body.clone())).await;
    let lost = Registry::start(|_| say(404)).await;
    let other = Registry::start(|_| say(200).data(data(999))).await;
    let asking =
        Registry::start(|_| say(401).header("www-authenticate", "Basic realm=\"x\"")).await;
    let hosts = [lost.host(), other.host(), asking.host(), "127.0.0.1:1".to_owned()];
    let urls = hosts.map(|host| format!("http://{host}/layer"));
    let settings = as_user(password());
    let repository = open(LIMITS, &format!("{}/a/b", registry.host()), settings).await.unwrap();
    assert_eq!(read(&repository, &at(&blob, urls), 0).await.unwrap(), blob);
    for stranger in [&lost, &other, &asking] {
        let asked = stranger.asked();
        assert_eq!(asked.len(), 1);
        assert!(!asked[0].headers.contains_key("authorization"));
    }
    assert_eq!(registry.lines().len(), 1);
}

#[tokio::test]
async fn what_breaks_off_is_fetched_on_from_the_next_address() {
    let blob = data(300_000);
    let (begin, rest) = (blob[..100_000].to_vec(), blob[100_000..].to_vec());
    let first = Registry::start(move |asked| match asked.count {
        0 => say(200).data(begin.clone()).length(300_000).breaks(),
        _ => say(404),
    })
    .await;
    let second = Registry::start(move |asked| match asked.header("range") {
        "bytes=100000-" => {
            say(206).header("content-range", "bytes 100000-299999/300000").data(rest.clone())
        }
        _ => say(404),
    })
    .await;
    let registry = Registry::start(|_| say(404)).await;
    let urls = [&first, &second].map(|host| format!("http://{}/layer", host.host()));
    let of = at(&blob, urls);
    assert_eq!(read(&repository(&registry).await, &of, 0).await.unwrap(), blob);
    assert!(registry.asked().is_empty());
}
