//! `ctr content`.

use std::{fs, process::Command};

use crate::{
    ctr_containers,
    host::{CTR, Host, fails, succeeds},
    peer::Peer,
};

/// Digests of `abc` and of `abd`, by sha256sum(1).
const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ABD: &str = "sha256:a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9";

/// Clients run without an input, so a shell gives it one.
fn ingest(host: &Host, data: &str, options: &[&str]) -> Command {
    let path = host.path("data");
    fs::write(&path, data).expect("write the data");
    let mut command = host.client("sh");
    command.args(["-c", r#"exec "$0" "$@" <"$DATA""#, CTR, "--address"]);
    command.env("DATA", path).arg(Peer::socket(&host.path("")));
    command.args(["--namespace", host.name(), "content", "ingest"]).args(options).arg("a ref");
    command
}

fn digests(host: &Host, filter: &str) -> Vec<String> {
    let list = succeeds(host.ctr(&["content", "ls", "--quiet", filter]));
    list.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn content_is_ingested_read_labelled_edited_and_removed() {
    let mut host = Host::make().await;
    // Without something that refers to it, it is collected.
    let labels =
        [ABC, ABD].map(|blob| format!("containerd.io/gc.ref.content.{}={blob}", &blob[7..9]));
    let options = ["--label", &labels[0], "--label", &labels[1]];
    ctr_containers::create(&host, "keeper", &options, "");
    succeeds(ingest(&host, "abc", &["--expected-size", "3", "--expected-digest", ABC]));
    assert_eq!(digests(&host, ""), [ABC]);
    assert_eq!(succeeds(host.ctr(&["content", "get", ABC])), "abc");
    // What is there is no error of ctr's.
    succeeds(ingest(&host, "abc", &[]));
    let other = ABC.replace("7816", "7817");
    let (_, text) = fails(ingest(&host, "abd", &["--expected-digest", &other]));
    assert!(text.contains("unexpected commit digest"), "{text}");
    let active = succeeds(host.ctr(&["content", "active"]));
    assert!(active.contains("a ref"), "{active}");

    succeeds(host.ctr(&["content", "label", ABC, "k.a/b=v"]));
    assert_eq!(digests(&host, "labels.k==v"), [""; 0]);
    assert_eq!(digests(&host, "labels.\"k.a/b\"==v"), [ABC]);
    // The editor has to leave the file in its place. What was not ingested is there still.
    let editor = format!("cp {}", host.text("data"));
    let edited = succeeds(host.ctr(&["content", "edit", "--editor", &editor, ABC]));
    assert_eq!(edited.trim(), ABD);
    host.end_server(rustix::process::Signal::KILL).await;
    host.start_server().await;
    assert_eq!(succeeds(host.ctr(&["content", "get", ABD])), "abd");
    let plugins = succeeds(host.ctr(&["plugins", "ls"]));
    assert!(plugins.contains("io.containerd.content.v1"), "{plugins}");

    succeeds(host.ctr(&["content", "rm", ABC, ABD]));
    assert_eq!(digests(&host, ""), [""; 0]);
    let (_, text) = fails(host.ctr(&["content", "get", ABC]));
    assert!(text.contains(&format!("content digest {ABC}: not found")), "{text}");
    succeeds(host.ctr(&["containers", "rm", "keeper"]));
    host.finish().await;
}
