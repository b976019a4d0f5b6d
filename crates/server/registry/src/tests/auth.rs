use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    registry::{Asked, Said, say},
    *,
};

const BASIC: &str = "Basic YW5uOnAmc3MgdzpyZA==";

/// Whom a registry with tokens lets in: who has the newest one of `tokens`.
fn with_tokens(asked: &Asked, newest: &str) -> Said {
    if asked.header("authorization") == format!("Bearer {newest}") {
        return say(200).data("x");
    }
    let realm = format!("http://{}/token?account=1", asked.header("host"));
    let scope = "repository:a/b:pull";
    let challenge = format!("Bearer realm=\"{realm}\",service=\"the registry\",scope=\"{scope}\"");
    say(401).header("www-authenticate", challenge)
}

#[tokio::test]
async fn a_password_is_told_once_the_registry_asks() {
    let registry = Registry::start(|asked| match asked.header("authorization") {
        BASIC => say(200).data("x"),
        _ => say(401).header("www-authenticate", "Basic realm=\"x\""),
    })
    .await;
    let reference = format!("{}/a/b", registry.host());
    let repository = open(LIMITS, &reference, as_user(password())).await.unwrap();
    for _ in 0..2 {
        assert_eq!(read(&repository, &remote(LAYER, b"x"), 0).await.unwrap(), b"x");
    }
    let told: Vec<_> =
        registry.asked().iter().map(|asked| asked.header("authorization").to_owned()).collect();
    assert_eq!(told, ["", BASIC, BASIC]);

    let wrong = Credential::Password { username: "ann".to_owned(), secret: "wrong".to_owned() };
    let repository = open(LIMITS, &reference, as_user(wrong)).await.unwrap();
    let error = read(&repository, &remote(LAYER, b"x"), 0).await.unwrap_err().to_string();
    assert!(error.contains("not authorized: the credentials are refused"), "{error}");
    let repository = open(LIMITS, &reference, plain()).await.unwrap();
    let error = read(&repository, &remote(LAYER, b"x"), 0).await.unwrap_err().to_string();
    assert!(error.contains("no basic auth credentials"), "{error}");
}

#[tokio::test]
async fn a_token_is_asked_for_once_and_again_when_it_is_too_old() {
    let newest = Arc::new(AtomicUsize::new(1));
    let registry = Registry::start({
        let newest = Arc::clone(&newest);
        move |asked| {
            let newest = format!("t{}", newest.load(Ordering::Relaxed));
            match asked.line.as_str() {
                "GET /token" => {
                    say(200).data(format!(r#"{{"token":"{newest}","expires_in":300}}"#))
                }
                _ => with_tokens(asked, &newest),
            }
        }
    })
    .await;
    let repository = repository(&registry).await;
    let of = remote(LAYER, b"x");
    for _ in 0..2 {
        let both = tokio::join!(read(&repository, &of, 0), read(&repository, &of, 0));
        assert_eq!((both.0.unwrap(), both.1.unwrap()), (b"x".to_vec(), b"x".to_vec()));
    }
    let tokens = |registry: &Registry| {
        registry.asked().into_iter().filter(|asked| asked.line == "GET /token").collect::<Vec<_>>()
    };
    let asked = tokens(&registry);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].query, "account=1&service=the%20registry&scope=repository:a/b:pull");
    assert_eq!(asked[0].header("authorization"), "");
    newest.store(2, Ordering::Relaxed);
    assert_eq!(read(&repository, &of, 0).await.unwrap(), b"x");
    assert_eq!(tokens(&registry).len(), 2);
}

#[tokio::test]
async fn a_token_that_says_when_it_ends_is_not_used_longer() {
    let registry = Registry::start(|asked| match asked.line.as_str() {
        "GET /token" => say(200).data(r#"{"access_token":"t","expires_in":1}"#),
        _ => with_tokens(asked, "t"),
    })
    .await;
    let repository = repository(&registry).await;
    read(&repository, &remote(LAYER, b"x"), 0).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    read(&repository, &remote(LAYER, b"x"), 0).await.unwrap();
    let lines: Vec<_> = registry
        .lines()
        .iter()
        .map(|line| line.split(' ').next_back().unwrap() == "/token")
        .collect();
    assert_eq!(lines, [false, true, false, true, false]);
}

#[tokio::test]
async fn with_credentials_a_token_is_asked_for_by_oauth_or_as_before() {
    for knows_oauth in [true, false] {
        let registry = Registry::start(move |asked| match asked.line.as_str() {
            "POST /token" if knows_oauth => say(200).data(r#"{"access_token":"t"}"#),
            "GET /token" if !knows_oauth && asked.header("authorization") == BASIC => {
                say(200).data(r#"{"token":"t"}"#)
            }
            "POST /token" | "GET /token" => say(404),
            _ => with_tokens(asked, "t"),
        })
        .await;
        let reference = format!("{}/a/b", registry.host());
        let repository = open(LIMITS, &reference, as_user(password())).await.unwrap();
        read(&repository, &remote(LAYER, b"x"), 0).await.unwrap();
        let form = &registry.asked()[1];
        assert_eq!(
            String::from_utf8_lossy(&form.body),
            "grant_type=password&username=ann&password=p%26ss%20w:rd&service=the%20registry\
             &client_id=containerd-client&scope=repository:a/b:pull"
        );
        assert_eq!(form.header("content-type"), "application/x-www-form-urlencoded");
    }
    let registry = Registry::start(|asked| match asked.line.as_str() {
        "POST /token" => say(200).data(r#"{"access_token":"t"}"#),
        _ => with_tokens(asked, "t"),
    })
    .await;
    let reference = format!("{}/a/b", registry.host());
    let refresh = as_user(Credential::Refresh("r".to_owned()));
    read(&open(LIMITS, &reference, refresh).await.unwrap(), &remote(LAYER, b"x"), 0).await.unwrap();
    assert!(registry.asked()[1].body.starts_with(b"grant_type=refresh_token&refresh_token=r&"));
    let header = as_user(Credential::Header("Bearer t".to_owned()));
    read(&open(LIMITS, &reference, header).await.unwrap(), &remote(LAYER, b"x"), 0).await.unwrap();
    assert_eq!(registry.lines().iter().filter(|line| line.ends_with("/token")).count(), 1);
}

#[tokio::test]
async fn a_registry_that_is_never_content_is_given_up() {
    let registry = Registry::start(|asked| match asked.line.as_str() {
        "GET /token" => say(200).data(r#"{"token":"t"}"#),
        _ => with_tokens(asked, "another"),
    })
    .await;
    let error = read(&repository(&registry).await, &remote(LAYER, b"x"), 0).await.unwrap_err();
    assert!(
        matches!(error, RegistryError::Status { .. }) && error.to_string().contains("401"),
        "{error}"
    );
    assert_eq!(registry.lines().len(), 5);
}

#[tokio::test]
async fn answers_that_are_no_tokens_are_refused_without_being_shown() {
    for answer in [
        r#"{"token":""}"#,
        r#"{"token":5,"password":"hidden"}"#,
        "hidden",
        "{\"token\":\"hid\\nden\"}",
    ] {
        let registry = Registry::start(move |asked| match asked.line.as_str() {
            "GET /token" => say(200).data(answer),
            _ => with_tokens(asked, "t"),
        })
        .await;
        let error = read(&repository(&registry).await, &remote(LAYER, b"x"), 0)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains("/token: gave ") && !error.contains("hid"), "{error}");
    }
}

#[tokio::test]
async fn a_caller_that_does_not_say_who_asks_is_not_waited_for() {
    let registry = Registry::start(|asked| with_tokens(asked, "t")).await;
    let reference = format!("{}/a/b", registry.host());
    let silent: AskCredential = Arc::new(|_| Box::pin(std::future::pending()));
    let host = Arc::new(std::sync::Mutex::new(String::new()));
    let asked_for = Arc::clone(&host);
    let failing: AskCredential = Arc::new(move |host| {
        *asked_for.lock().unwrap() = host;
        Box::pin(async { Err("the stream ended".to_owned()) })
    });
    for (ask, problem) in [(silent, "no answer within 500ms"), (failing, "the stream ended")] {
        let settings = Settings { credential: Some(ask), ..plain() };
        let repository = open(IMPATIENT, &reference, settings).await.unwrap();
        let error = read(&repository, &remote(LAYER, b"x"), 0).await.unwrap_err().to_string();
        assert_eq!(error, format!("no credentials for {}: {problem}", registry.host()));
    }
    assert_eq!(*host.lock().unwrap(), registry.host());
}
