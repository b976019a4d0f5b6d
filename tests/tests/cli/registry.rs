//! `gantry pull` and `gantry push`, with Debian's registry, which wants to know who asks.

use std::fs;

use gantry_tests::{
    Runtime::Runc,
    docker_registry::{Kind, Registry},
};

use crate::{
    Bed,
    image::NewImage,
    output,
    run_image::{finish, gantry, leases, namespace, run, snapshots},
    stderr, stdout, succeeds, with_input,
};

#[tokio::test]
async fn what_is_pushed_is_pulled_by_who_may() {
    let work = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(work.path(), Kind::Login).await else { return };
    let Some(bed) = Bed::make(Runc).await else { return };
    let name = format!("{}/a/box:1", registry.host());
    let image = NewImage::busybox(&bed)
        .layer(&bed, |dir| fs::write(dir.join("f"), "x\n").unwrap())
        .set("Cmd", serde_json::json!(["cat", "/f"]));
    image.put_whole(&bed, &namespace(&bed), "box").await;
    let with =
        |command: &str, words: &[&str]| gantry(&bed, command, &[&["--plain-http"], words].concat());
    let who = ["-u", "ann:secret"];
    assert_eq!(succeeds(&with("push", &[&who[..], &["box", &name]].concat())), format!("{name}\n"));
    succeeds(&gantry(&bed, "rmi", &["box"]));

    for (user, words) in [(None, "not authorized"), (Some("ann:wrong"), "not authorized")] {
        let user = user.map(|user| ["-u", user]).into_iter().flatten();
        let words_of: Vec<_> = user.chain([&*name]).collect();
        let refused = output(&with("pull", &words_of));
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert_eq!(stderr(&refused).matches("gantry: ").count(), 1, "{refused:?}");
        assert!(stderr(&refused).contains(words), "{refused:?}");
    }
    let pull = with("pull", &["-u", "ann", "--password-stdin", &name]);
    let pulled = with_input(pull, b"secret\n".to_vec());
    assert_eq!(stdout(&pulled), format!("{name}\n"), "{pulled:?}");
    // A line for each step, as standard error is no terminal.
    let steps = stderr(&pulled).lines().filter(|line| line.starts_with("layer "));
    assert_eq!(steps.filter(|line| line.ends_with(": extracted")).count(), 2, "{pulled:?}");
    assert_eq!(snapshots(&bed).await, 2);
    assert_eq!(succeeds(&run(&bed, &["--rm", &name])), "x\n");
    let unknown = format!("{}/a/none:1", registry.host());
    let unknown = output(&with("pull", &[&who[..], &[&unknown]].concat()));
    assert!(stderr(&unknown).ends_with(": not found\n"), "{unknown:?}");
    assert_eq!(leases(&bed).await, 0);
    drop(registry);
    finish(bed).await;
}
