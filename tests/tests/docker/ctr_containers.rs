//! `ctr containers`, `namespaces`, `leases` and what the server reports about itself.

use serde_json::Value;

use crate::host::{Host, fails, succeeds};

/// Creates a container that would run a shell script. The script is a file: this command of ctr takes
/// the `-c` of a shell for its own, wherever it is.
pub(crate) fn create(host: &Host, id: &str, options: &[&str], script: &str) {
    let file = format!("{id}.sh");
    std::fs::write(host.path("rootfs").join(&file), script).expect("write a script");
    let fixed = ["containers", "create", "--rootfs", "--env", "PATH=/bin"];
    let (rootfs, file) = (host.text("rootfs"), format!("/{file}"));
    let program = [&rootfs, id, "sh", &file];
    succeeds(host.ctr(&[&fixed[..], options, &program].concat()));
}

fn ids(host: &Host, filter: &str) -> Vec<String> {
    let list = succeeds(host.ctr(&["containers", "ls", "--quiet", filter]));
    list.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn containers_are_created_listed_labelled_and_removed() {
    let host = Host::make().await;
    create(&host, "one", &["--label", "kind=x"], "true");
    create(&host, "two", &["--label", "kind=y"], "true");
    assert_eq!(ids(&host, ""), ["one", "two"]);
    assert_eq!(ids(&host, "labels.kind==x"), ["one"]);
    assert_eq!(ids(&host, "id~=|^t|,labels.kind"), ["two"]);
    let (_, text) = fails(host.ctr(&["containers", "ls", "labels.kind=="]));
    assert!(text.contains("filters"), "{text}");
    let (_, text) = fails(host.ctr(&["containers", "create", "--rootfs", "/", "one", "true"]));
    assert_eq!(text, "ctr: container \"one\": already exists\n");
    succeeds(host.ctr(&["containers", "label", "one", "kind=", "k.a/b=v"]));
    let info = succeeds(host.ctr(&["containers", "info", "one"]));
    let info: Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["ID"], "one");
    assert_eq!(info["Labels"], serde_json::json!({ "k.a/b": "v" }));
    assert_eq!(info["Runtime"]["Name"], "io.containerd.runc.v2");
    assert_eq!(info["Spec"]["process"]["args"], serde_json::json!(["sh", "/one.sh"]));
    assert_eq!(info["Spec"]["root"]["path"], host.text("rootfs").as_str());
    let (created, updated) = (info["CreatedAt"].as_str(), info["UpdatedAt"].as_str());
    assert!(created.is_some_and(|time| time > "2020") && created < updated, "{info}");
    succeeds(host.ctr(&["containers", "rm", "one", "two"]));
    assert_eq!(ids(&host, ""), [""; 0]);
    let (_, text) = fails(host.ctr(&["containers", "rm", "one"]));
    let says = format!("container \"one\" in namespace \"{}\": not found", host.name());
    assert!(text.contains(&says), "{text}");
    let (_, text) = fails(host.ctr(&["containers", "info", "one"]));
    assert!(text.contains(&says), "{text}");
    host.finish().await;
}

#[tokio::test]
async fn containers_outlive_the_server() {
    let mut host = Host::make().await;
    create(&host, "one", &["--label", "kind=x"], "true");
    let info = |host: &Host| succeeds(host.ctr(&["containers", "info", "one"]));
    let before = info(&host);
    for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
        host.end_server(signal).await;
        host.start_server().await;
        assert_eq!(info(&host), before);
    }
    succeeds(host.ctr(&["containers", "rm", "one"]));
    host.finish().await;
}

#[tokio::test]
async fn namespaces_have_labels_and_are_removed_when_empty() {
    let host = Host::make().await;
    succeeds(host.ctr(&["namespaces", "create", "other", "a=b"]));
    let (_, text) = fails(host.ctr(&["namespaces", "create", "other"]));
    assert!(text.contains("namespace \"other\": already exists"), "{text}");
    succeeds(host.ctr(&["namespaces", "label", "other", "a=", "c=d"]));
    let list = succeeds(host.ctr(&["namespaces", "ls"]));
    let line = list.lines().find(|line| line.starts_with("other")).expect("a line");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["other", "c=d"]);
    let fixed = ["containers", "create", "--rootfs", "/", "one", "true"];
    succeeds(host.ctr_in("other", &fixed));
    let (_, text) = fails(host.ctr(&["namespaces", "rm", "other"]));
    assert!(text.contains("must be empty, but it still has containers"), "{text}");
    succeeds(host.ctr_in("other", &["containers", "rm", "one"]));
    assert_eq!(succeeds(host.ctr(&["namespaces", "rm", "other"])), "other\n");
    assert!(!succeeds(host.ctr(&["namespaces", "ls", "-q"])).contains("other"));
    let (_, text) = fails(host.ctr(&["namespaces", "create", "bad/name"]));
    assert!(text.contains("invalid argument"), "{text}");
    host.finish().await;
}

#[tokio::test]
async fn leases_are_made_listed_and_deleted() {
    let host = Host::make().await;
    let made = succeeds(host.ctr(&["leases", "create", "--id", "mine", "--expires", "1h", "a=b"]));
    assert_eq!(made, "mine\n");
    let (_, text) = fails(host.ctr(&["leases", "create", "--id", "mine"]));
    assert!(text.contains("lease \"mine\": already exists"), "{text}");
    let named = succeeds(host.ctr(&["leases", "create"]));
    let list = succeeds(host.ctr(&["leases", "ls"]));
    let line = list.lines().find(|line| line.starts_with("mine")).expect("a line");
    assert!(line.contains("a=b") && line.contains("containerd.io/gc.expire="), "{list}");
    let listed = |filter: &str| succeeds(host.ctr(&["leases", "ls", "--quiet", filter]));
    assert_eq!(listed("labels.a==b"), "mine\n");
    assert!(listed("").contains(&named));
    assert_eq!(succeeds(host.ctr(&["leases", "rm", "--sync", "mine"])), "mine\n");
    let (_, text) = fails(host.ctr(&["leases", "rm", "mine"]));
    assert!(text.contains("lease \"mine\": not found"), "{text}");
    succeeds(host.ctr(&["leases", "rm", named.trim_end()]));
    assert_eq!(listed(""), "");
    host.finish().await;
}

#[tokio::test]
async fn the_server_reports_its_version_and_identity() {
    let mut host = Host::make().await;
    let server = |host: &Host| {
        let version = succeeds(host.ctr(&["version"]));
        version.split("Server:\n").nth(1).expect("what the server says").to_owned()
    };
    let before = server(&host);
    for field in ["Version:  2.", "Revision:", "UUID:"] {
        assert!(before.contains(field), "{before}");
    }
    host.end_server(rustix::process::Signal::TERM).await;
    host.start_server().await;
    assert_eq!(server(&host), before, "it keeps its identity");
    let plugins = succeeds(host.ctr(&["plugins", "ls"]));
    for service in ["containers", "tasks", "leases", "namespaces", "introspection"] {
        let listed = plugins.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.first() == Some(&"io.containerd.grpc.v1")
                && words.get(1) == Some(&service)
                && words.last() == Some(&"ok")
        });
        assert!(listed, "{service}: {plugins}");
    }
    host.finish().await;
}
