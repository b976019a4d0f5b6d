//! Content that an image names an address of.

use std::time::Instant;

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
async fn what_no_address_has_comes_from_the_registry() {
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

#[tokio::test]
async fn an_address_that_gives_nothing_is_asked_once() {
    let blob = data(1000);
    let body = blob.clone();
    let breaking = Registry::start(|_| say(200).length(1000).breaks()).await;
    let stalling = Registry::start(|_| say(200).length(1000).stalls()).await;
    // It begins before the offset, and does not reach it.
    let surplus = Registry::start(|_| say(200).data(data(50)).length(1000).breaks()).await;
    let silent = Registry::start(|_| say(200).silent()).await;
    let registry = Registry::start(move |asked| match asked.count {
        0 => say(206)
            .header("content-range", "bytes 100-999/1000")
            .data(body[100..500].to_vec())
            .length(900)
            .breaks(),
        _ => say(206).header("content-range", "bytes 500-999/1000").data(body[500..].to_vec()),
    })
    .await;
    let strangers = [breaking, stalling, surplus, silent];
    let urls = [&strangers[0], &strangers[1], &strangers[0], &strangers[2], &strangers[3]]
        .map(|host| format!("http://{}/layer", host.host()));
    let limits = Limits { answer: Duration::from_secs(3), ..IMPATIENT };
    let repository = open(limits, &format!("{}/a/b", registry.host()), plain()).await.unwrap();
    assert_eq!(read(&repository, &at(&blob, urls), 100).await.unwrap(), blob[100..]);
    assert_eq!(strangers.map(|stranger| stranger.asked().len()), [2, 1, 1, 1]);
    assert_eq!(registry.asked().len(), 2);
}

#[tokio::test]
async fn addresses_that_do_not_answer_have_one_time_together() {
    let blob = data(1000);
    let body = blob.clone();
    let silent = Registry::start(|_| say(200).silent()).await;
    let registry = Registry::start(move |_| say(200).data(body.clone())).await;
    let urls = (0..16).map(|n| format!("http://{}/{n}", silent.host()));
    let limits = Limits { answer: Duration::from_secs(2), ..LIMITS };
    let repository = open(limits, &format!("{}/a/b", registry.host()), plain()).await.unwrap();
    let begun = Instant::now();
    assert_eq!(read(&repository, &at(&blob, urls), 0).await.unwrap(), blob);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(silent.asked().len() > 1);
}

#[tokio::test]
async fn an_address_goes_on_with_what_the_registry_has_not() {
    let blob = data(300_000);
    let body = blob.clone();
    let address = Registry::start(move |asked| {
        let from = asked.count * 100_000;
        let part = body[from..from + 100_000].to_vec();
        let range = format!("bytes {from}-299999/300000");
        match asked.count {
            0 => say(200).data(part).length(300_000).breaks(),
            1 => say(206).header("content-range", range).data(part).length(200_000).breaks(),
            _ => say(206).header("content-range", range).data(part),
        }
    })
    .await;
    let registry = Registry::start(|_| say(404)).await;
    let of = at(&blob, [format!("http://{}/layer", address.host())]);
    assert_eq!(read(&repository(&registry).await, &of, 0).await.unwrap(), blob);
    assert_eq!((address.asked().len(), registry.asked().len()), (3, 2));
}

#[tokio::test]
async fn the_error_comes_from_the_registry() {
    let address = Registry::start(|_| say(404).data("a word of a stranger")).await;
    let registry = Registry::start(|_| say(403).data("no entry")).await;
    let of = at(b"x", [format!("http://{}/layer", address.host())]);
    let error = read(&repository(&registry).await, &of, 0).await.unwrap_err().to_string();
    assert!(error.contains(&registry.host()) && error.contains("no entry"), "{error}");
    assert_eq!(address.asked().len(), 1);
}

#[tokio::test]
async fn a_manifest_that_an_address_has_wrong_comes_from_the_registry() {
    let registry = Registry::start(|_| say(200).data("right")).await;
    for wrong in ["wrong", "wro", "wrong and too long"] {
        let address = Registry::start(move |_| say(200).data(wrong).chunked()).await;
        let urls = vec![format!("http://{}/index", address.host())];
        let of = Remote { urls, ..remote(INDEX, b"right") };
        assert_eq!(repository(&registry).await.manifest(&of).await.unwrap(), "right", "{wrong}");
        assert_eq!(address.asked().len(), 1);
    }
}
