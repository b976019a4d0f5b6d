use super::{registry::say, *};

/// Asserts that an error names a blob and both of its sizes.
fn assert_size(error: &RegistryError, of: &Remote, actual: u64) {
    let text = error.to_string();
    let RegistryError::Size { blob, actual: found, expected, .. } = error else { panic!("{text}") };
    assert_eq!((blob, *found, *expected), (&of.digest, actual, of.size));
    for part in [of.digest.to_string(), actual.to_string(), of.size.to_string()] {
        assert!(text.contains(&part), "{text}");
    }
}

#[tokio::test]
async fn a_blob_that_breaks_off_is_fetched_on() {
    let blob = data(300_000);
    let of = remote(LAYER, &blob);
    let body = blob.clone();
    let registry = Registry::start(move |asked| {
        let from: usize = asked
            .header("range")
            .strip_prefix("bytes=")
            .map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        let rest = &body[from..];
        let said = match from {
            0 => say(200),
            _ => say(206)
                .header("content-range", format!("bytes {from}-{}/{}", body.len() - 1, body.len())),
        };
        let part = rest[..rest.len().min(100_000)].to_vec();
        if part.len() < rest.len() {
            said.data(part).length(rest.len()).breaks()
        } else {
            said.data(part)
        }
    })
    .await;
    assert_eq!(read(&repository(&registry).await, &of, 0).await.unwrap(), blob);
    assert!(registry.lines().len() >= 3);
    assert!(
        registry.lines().iter().all(|line| *line == format!("GET /v2/a/b/blobs/{}", of.digest))
    );
}

#[tokio::test]
async fn a_registry_that_knows_no_ranges_is_read_from_the_beginning() {
    let blob = data(300_000);
    let of = remote(LAYER, &blob);
    let body = blob.clone();
    let registry = Registry::start(move |asked| match asked.count {
        0 => say(200).data(body[..200_000].to_vec()).length(body.len()).breaks(),
        _ => say(200).data(body.clone()),
    })
    .await;
    let repository = repository(&registry).await;
    assert_eq!(read(&repository, &of, 0).await.unwrap(), blob);
    assert_eq!(read(&repository, &of, 299_999).await.unwrap(), blob[299_999..]);
    assert_eq!(read(&repository, &of, 300_000).await.unwrap(), b"");
    assert_eq!(registry.lines().len(), 3);
}

#[tokio::test]
async fn a_registry_that_stalls_is_asked_again_and_given_up_in_the_end() {
    let blob = data(1000);
    let of = remote(LAYER, &blob);
    let body = blob.clone();
    let registry = Registry::start(move |asked| match asked.count {
        0 => say(200).data(body[..400].to_vec()).length(1000).stalls(),
        1 => say(206).header("content-range", "bytes 400-999/1000").data(body[400..].to_vec()),
        _ => say(200).data(body[..10].to_vec()).length(1000).stalls(),
    })
    .await;
    let repository = open(IMPATIENT, &format!("{}/a/b", registry.host()), plain()).await.unwrap();
    assert_eq!(read(&repository, &of, 0).await.unwrap(), blob);
    assert_eq!(registry.asked()[1].header("range"), "bytes=400-");
    // What it says again and again is no progress.
    let error = read(&repository, &of, 10).await.unwrap_err();
    assert!(matches!(error, RegistryError::Stalled { .. }), "{error}");
}

#[tokio::test]
async fn sizes_that_lie_are_told() {
    let blob = data(1000);
    let of = remote(LAYER, &blob);
    for (length, actual) in [(999, 999), (2000, 1000 + 1000)] {
        let registry = Registry::start(move |_| say(200).data(data(length))).await;
        let error = read(&repository(&registry).await, &of, 0).await.unwrap_err();
        assert_size(&error, &of, actual);
    }
    // Without a length it is seen at the end.
    for length in [999, 1001] {
        let registry = Registry::start(move |_| say(200).data(data(length)).chunked()).await;
        let error = read(&repository(&registry).await, &of, 0).await.unwrap_err();
        assert_size(&error, &of, length as u64);
    }
    let answers: [(_, fn() -> _); 3] = [
        (700, || say(206).header("content-range", "bytes 500-699/700").data(data(200))),
        (400, || say(416).header("content-range", "bytes */400")),
        (600, || say(206).data(data(100))),
    ];
    for (actual, answer) in answers {
        let registry = Registry::start(move |_| answer()).await;
        let error = read(&repository(&registry).await, &of, 500).await.unwrap_err();
        assert_size(&error, &of, actual);
    }
}

#[tokio::test]
async fn a_length_beyond_all_sizes_is_refused() {
    let of = remote(LAYER, &data(1000));
    // The most that HTTP's parser takes.
    let registry = Registry::start(|_| say(206).length(usize::MAX - 2).stalls()).await;
    let error = read(&repository(&registry).await, &of, 500).await.unwrap_err();
    assert!(matches!(error, RegistryError::Answer { .. }), "{error}");
    assert!(error.to_string().contains("its Content-Length is 18446744073709551613"), "{error}");
}

#[tokio::test]
async fn another_range_than_the_one_that_was_asked_for_is_refused() {
    let of = remote(LAYER, &data(1000));
    for range in ["bytes 0-999/1000", "bytes 501-999/1000", "lines 1-2/3"] {
        let registry =
            Registry::start(move |_| say(206).header("content-range", range).data(data(500))).await;
        let error = read(&repository(&registry).await, &of, 500).await.unwrap_err();
        assert!(error.to_string().contains(range), "{error}");
    }
}

#[tokio::test]
async fn a_blob_that_is_not_there_is_not_found() {
    let registry = Registry::start(|_| say(404)).await;
    let of = remote(LAYER, b"x");
    let error = read(&repository(&registry).await, &of, 0).await.unwrap_err();
    assert_eq!(error.kind(), Some(gantry_domain::Kind::NotFound));
    assert_eq!(registry.lines().len(), 1);
}
