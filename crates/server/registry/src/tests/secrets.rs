//! A password is sent to nobody whom the registry did not name, and never by http instead of https.

use std::fs;

use super::{
    push::Parts,
    registry::say,
    tls::{authority, server},
    *,
};
use crate::Fault;

/// A caller with a password, at a registry of this machine that speaks https or http.
fn at_home() -> Settings {
    Settings { default_scheme: None, ..as_user(password()) }
}

#[tokio::test]
async fn a_realm_of_https_is_never_asked_by_http() {
    let realm = Registry::start(|_| say(200).data(r#"{"token":"t"}"#)).await;
    let challenge = format!("Bearer realm=\"https://{}/token\"", realm.host());
    let registry = Registry::start(move |_| say(401).header("www-authenticate", &challenge)).await;
    let reference = format!("{}/a/b", registry.host());
    let repository = open(LIMITS, &reference, at_home()).await.unwrap();
    for _ in 0..2 {
        let error = read(&repository, &remote(LAYER, b"x"), 0).await.unwrap_err();
        assert!(matches!(error, RegistryError::Transport { fault: Fault::Plain, .. }), "{error}");
    }
    assert!(realm.asked().is_empty(), "{:?}", realm.lines());
    assert!(!registry.asked().is_empty());
}

#[tokio::test]
async fn content_for_an_address_of_https_is_never_sent_by_http() {
    let storage = Registry::start(|_| say(201)).await;
    let elsewhere = format!("https://{}/up", storage.host());
    let registry = Registry::start(move |asked| match asked.line.starts_with("POST") {
        true => say(202).header("location", &elsewhere),
        false => say(404),
    })
    .await;
    let reference = format!("{}/a/b", registry.host());
    let repository = open(LIMITS, &reference, at_home()).await.unwrap();
    let blob = data(5000);
    let of = remote(LAYER, &blob);
    let error = repository.push_blob(&of, None, &Parts(blob, None)).await.unwrap_err();
    assert!(matches!(error, RegistryError::Transport { fault: Fault::Plain, .. }), "{error}");
    assert!(storage.asked().is_empty(), "{:?}", storage.lines());
}

#[tokio::test]
async fn a_password_follows_no_redirection_to_another_host() {
    let other = Registry::start(|_| say(200).data(r#"{"token":"t"}"#)).await;
    for (status, is_followed) in [(307, false), (308, false), (307, true)] {
        let to = match is_followed {
            true => "/here".to_owned(),
            false => format!("http://localhost:{}/there", other.port()),
        };
        let registry = Registry::start(move |asked| match asked.line.as_str() {
            "POST /token" => say(status).header("location", &to),
            "POST /here" => say(200).data(r#"{"token":"t"}"#),
            _ if asked.header("authorization") == "Bearer t" => say(200).data("x"),
            _ => {
                let realm = format!("http://{}/token", asked.header("host"));
                say(401).header("www-authenticate", format!("Bearer realm=\"{realm}\""))
            }
        })
        .await;
        let reference = format!("{}/a/b", registry.host());
        let repository = open(LIMITS, &reference, as_user(password())).await.unwrap();
        let answer = read(&repository, &remote(LAYER, b"x"), 0).await;
        if is_followed {
            assert_eq!(answer.unwrap(), b"x");
        } else {
            let error = answer.unwrap_err().to_string();
            assert!(error.contains("/there, which must not know what is sent here"), "{error}");
        }
    }
    assert!(other.asked().is_empty(), "{:?}", other.lines());
}

#[tokio::test]
async fn who_answers_by_http_instead_does_not_say_who_gives_tokens() {
    let own = authority();
    let realm = Registry::start(|_| say(200).data(r#"{"token":"t"}"#)).await;
    let challenge = format!("Bearer realm=\"http://{}/token\"", realm.host());
    let tls = server(own.as_ref(), own.key(), None);
    let registry =
        Registry::start_with_both(tls, move |asked| match asked.line.ends_with("/plain") {
            true => say(401).header("www-authenticate", &challenge),
            false => say(302).header("location", format!("http://{}/plain", asked.header("host"))),
        })
        .await;
    let root = tempfile::tempdir().unwrap();
    let host = format!("localhost:{}", registry.port());
    fs::create_dir(root.path().join(&host)).unwrap();
    let file = format!("server = \"https://{host}\"\nskip_verify = true");
    fs::write(root.path().join(&host).join("hosts.toml"), file).unwrap();
    let configured = Settings { host_dir: Some(root.path().to_owned()), ..at_home() };
    // Configured for https, and tried with https first.
    for settings in [configured, at_home()] {
        let repository = open(LIMITS, &format!("{host}/a/b"), settings).await.unwrap();
        let error = read(&repository, &remote(LAYER, b"x"), 0).await.unwrap_err().to_string();
        assert!(error.contains("/plain: unexpected status 401"), "{error}");
    }
    assert!(realm.asked().is_empty(), "{:?}", realm.lines());
    assert_eq!(registry.lines().iter().filter(|line| line.ends_with("/plain")).count(), 2);
}
