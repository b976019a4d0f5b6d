//! `ctr images`.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::host::{Host, fails, succeeds};

const NAME: &str = "docker.io/library/tiny:latest";

/// Writes a blob of an OCI layout; its descriptor.
fn blob(layout: &Path, media_type: &str, data: &[u8]) -> Value {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("make the directory of blobs");
    let new = blobs.join("new");
    fs::write(&new, data).expect("write a blob");
    let sum = succeeds(as_command("sha256sum", &[new.to_str().expect("UTF-8")]));
    let hex = sum.split(' ').next().expect("a digest");
    fs::rename(&new, blobs.join(hex)).expect("name a blob");
    json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": data.len() })
}

fn as_command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// An archive with an image of one layer, in which nothing is; and the image's digest.
fn archive(host: &Host) -> (String, String) {
    let layout = host.path("layout");
    let layer = blob(&layout, "application/vnd.oci.image.layer.v1.tar", &[0; 10240]);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = config.to_string();
    let config = blob(&layout, "application/vnd.oci.image.config.v1+json", config.as_bytes());
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer],
    });
    let mut manifest = blob(&layout, media_type, manifest.to_string().as_bytes());
    let digest = manifest["digest"].as_str().expect("a digest").to_owned();
    manifest["annotations"] = json!({ "io.containerd.image.name": NAME });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string()).expect("write the index");
    let version = r#"{"imageLayoutVersion":"1.0.0"}"#;
    fs::write(layout.join("oci-layout"), version).expect("write the version");
    let archive = host.text("image.tar");
    let directory = layout.to_str().expect("UTF-8");
    let files = ["oci-layout", "index.json", "blobs"];
    let mut tar = as_command("tar", &["--create", "--file", &archive, "--directory", directory]);
    tar.args(files);
    succeeds(tar);
    (archive, digest)
}

fn names(host: &Host, filter: &str) -> Vec<String> {
    let list = succeeds(host.ctr(&["images", "ls", "--quiet", filter]));
    list.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn images_are_imported_tagged_labelled_exported_and_removed() {
    let mut host = Host::make().await;
    let (archive, digest) = archive(&host);
    succeeds(host.ctr(&["images", "import", "--no-unpack", &archive]));
    let list = succeeds(host.ctr(&["images", "ls"]));
    for part in [NAME, &digest, "application/vnd.oci.image.manifest.v1+json", " KiB linux/"] {
        assert!(list.contains(part), "{part} in {list}");
    }
    // It fails for want of snapshots, after it has printed this.
    let check = host.ctr(&["images", "check"]).output().expect("run ctr");
    let check = String::from_utf8(check.stdout).expect("UTF-8");
    assert!(check.contains("complete (2/2)"), "{check}");

    succeeds(host.ctr(&["images", "tag", NAME, "other:1"]));
    let (_, text) = fails(host.ctr(&["images", "tag", NAME, "other:1"]));
    assert!(text.contains(r#"image "other:1": already exists"#), "{text}");
    // It deletes the image, and creates it again.
    succeeds(host.ctr(&["images", "tag", "--force", NAME, "other:1"]));
    let labels = succeeds(host.ctr(&["images", "label", "other:1", "a=b", "c.d/e=f"]));
    // In any order.
    let mut labels: Vec<_> = labels.trim().split(',').collect();
    labels.sort_unstable();
    assert_eq!(labels, ["a=b", "c.d/e=f"]);
    assert_eq!(names(&host, "labels.\"c.d/e\"==f"), ["other:1"]);
    let labels = succeeds(host.ctr(&["images", "label", "other:1", "a="]));
    assert_eq!(labels.trim(), "c.d/e=f");
    assert_eq!(names(&host, &format!("target.digest=={digest}")), [NAME, "other:1"]);
    assert_eq!(names(&host, "name~=tiny"), [NAME]);
    let elsewhere = succeeds(host.ctr_in("elsewhere", &["images", "ls", "--quiet"]));
    assert_eq!(elsewhere, "");

    host.end_server(rustix::process::Signal::KILL).await;
    host.start_server().await;
    succeeds(host.ctr(&["images", "rm", NAME]));
    let (path, manifest) = (host.text("exported.tar"), digest.replace("sha256:", "blobs/sha256/"));
    succeeds(host.ctr(&["images", "export", &path, "other:1"]));
    let exported = succeeds(as_command("tar", &["--list", "--file", &path]));
    assert!(exported.lines().any(|name| name == manifest), "{exported}");
    let content = |host: &Host| succeeds(host.ctr(&["content", "ls", "--quiet"]));
    assert_eq!(content(&host).lines().count(), 3, "manifest, configuration and layer");
    // Of what is not there it only warns. With the last one it waits.
    succeeds(host.ctr(&["images", "rm", "--sync", "none", "other:1"]));
    assert_eq!(names(&host, ""), [""; 0]);
    assert_eq!(content(&host), "");
    let plugins = succeeds(host.ctr(&["plugins", "ls"]));
    assert!(plugins.contains("images-service"), "{plugins}");
    host.finish().await;
}
