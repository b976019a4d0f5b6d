//! A network of containers, which dockerd makes in the namespaces that the server's hooks hand it.

use crate::{dockerd::Docker, host::eventually};

#[tokio::test]
async fn containers_talk_over_a_bridge_and_through_a_published_port() {
    // The first start makes docker0 and the rules of the test's own network namespace.
    let docker = Docker::start_with(&["--bip=10.91.0.1/24"]).await;
    let web = "echo ready; while :; do echo hello | nc -l -p 80; done";
    docker.run("web", &["--publish=127.0.0.1:8080:80"], web);
    docker.prints("web", "ready").await;
    let address = docker.inspect("web", "{{.NetworkSettings.IPAddress}}");
    docker.run("client", &["--link=web"], &format!("ping -c 1 -W 5 {address} && nc {address} 80"));
    assert_eq!(docker.ok(&["wait", "client"]), "0", "{}", docker.ok(&["logs", "client"]));
    let logs = docker.ok(&["logs", "client"]);
    assert!(logs.contains("1 packets received") && logs.contains("hello"), "{logs}");
    let ask = || docker.host.sh("busybox nc -w 5 127.0.0.1 8080 < /dev/null");
    eventually("loopback leads to it", || ask().is_some_and(|answer| answer == "hello\n")).await;
    let hosts = docker.ok(&["exec", "web", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&address), "{hosts}");
    docker.ok(&["stop", "--time=0", "web"]);
    assert_eq!(ask(), None, "the port is closed again");
    docker.finish().await;
}
