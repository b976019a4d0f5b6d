//! Every way of being connected.

use std::net::Ipv4Addr;

use Runtime::{Crun, Runc};
use gantry_daemon::proto::{self, ContainerConfig, networking::Mode};
use gantry_tests::Runtime;
use rstest::rstest;
use tonic::Code;

use crate::{
    Bed,
    bed::{bridge, networking},
};

/// Prints what it has of the network, and stays.
const SHOW: &str = "readlink /proc/self/ns/net; ip -o -4 addr; hostname; \
                    echo domain $(cat /proc/sys/kernel/domainname); echo shown; exec sleep 1000000";

async fn network(bed: &Bed, name: &str) -> proto::Network {
    let request = proto::CreateNetworkRequest { name: name.into(), subnet: String::new() };
    let response = bed.api().create_network(request).await.unwrap().into_inner();
    response.network.unwrap()
}

fn on(bed: &Bed, networks: &[&str], script: &str) -> ContainerConfig {
    ContainerConfig { networking: bridge(networks), ..bed.script(script) }
}

async fn address(bed: &Bed, reference: &str) -> Ipv4Addr {
    let container = bed.inspect(reference).await.unwrap();
    container.endpoints[0].address.parse().unwrap()
}

#[rstest]
#[tokio::test]
async fn neighbours_reach_each_other_by_name(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    network(&bed, "front").await;
    network(&bed, "back").await;
    let a = bed.run("a", on(&bed, &["front"], SHOW)).await;
    bed.prints(&a, "shown\n").await;
    let ping = "until ping -c 1 -W 1 a; do sleep 0.05; done; ping -c 1 stranger; echo shown; ";
    let b = bed.run("b", on(&bed, &["front"], &format!("{ping}{SHOW}"))).await;
    bed.run("stranger", on(&bed, &["back"], SHOW)).await;
    bed.prints(&b, "domain").await;
    let (of_a, of_b) = (bed.output(&a), bed.output(&b));
    let (address_a, address_b) = (address(&bed, "a").await, address(&bed, "b").await);
    assert!(of_a.contains(&format!("{address_a}/24")), "{of_a}");
    assert!(of_b.contains(&format!("{address_b}/24")), "{of_b}");
    assert!(of_b.contains(&format!("from {address_a}")), "{of_b}");
    assert!(of_b.contains("bad address 'stranger'"), "{of_b}");
    let namespace =
        |output: &str| output.lines().find(|l| l.starts_with("net:")).map(str::to_owned);
    assert!(namespace(&of_a).is_some() && namespace(&of_a) != namespace(&of_b));
    let hosts = || bed.sh(&format!("cat /proc/{}/root/etc/hosts", pid_of(&bed, &a))).unwrap();
    assert!(hosts().contains(&format!("{address_b}\tb ")), "a knows b, which came later");
    bed.stop("b").await;
    assert!(!hosts().contains("\tb "), "{}", hosts());
    bed.stop("a").await;
    bed.stop("stranger").await;
    bed.assert_clean().await;
}

/// The pid that the container's own record has, without waiting for anything.
fn pid_of(bed: &Bed, id: &str) -> u64 {
    let record = std::fs::read(bed.directory(id).join("container.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["state"]["pid"].as_u64().unwrap()
}

#[tokio::test]
async fn there_is_an_interface_for_each_network() {
    let Some(bed) = Bed::make(Runc).await else { return };
    network(&bed, "front").await;
    network(&bed, "back").await;
    let mut config = on(&bed, &["front", "back"], SHOW);
    let Some(Mode::Bridge(mode)) = config.networking.as_mut().unwrap().mode.as_mut() else {
        unreachable!()
    };
    mode.aliases = vec!["database".into()];
    let both = bed.run("both", config).await;
    bed.prints(&both, "shown\n").await;
    let container = bed.inspect("both").await.unwrap();
    let endpoints = container.endpoints.iter().map(|e| (e.network.as_str(), e.interface.as_str()));
    assert_eq!(endpoints.collect::<Vec<_>>(), [("front", "eth0"), ("back", "eth1")]);
    for endpoint in &container.endpoints {
        let line = format!("{}    inet {}/24", endpoint.interface, endpoint.address);
        assert!(bed.output(&both).contains(&line), "{}", bed.output(&both));
    }
    let ping = "until ping -c 1 -W 1 database; do sleep 0.05; done";
    let id = bed.run("one", on(&bed, &["back"], ping)).await;
    assert_eq!(bed.wait("one").await, 0, "{}", bed.output(&id));
    let remove = || proto::RemoveNetworkRequest { name: "back".into() };
    let error = bed.api().remove_network(remove()).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
    bed.remove("both", true).await.unwrap();
    bed.remove("one", true).await.unwrap();
    bed.api().remove_network(remove()).await.unwrap();
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_published_port_leads_into_the_container() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let published = || {
        let port =
            proto::PublishedPort { container_port: 80, host_port: 8080, ..Default::default() };
        let mode = proto::BridgeMode { ports: vec![port], ..Default::default() };
        let script = "while :; do echo hello | nc -l -p 80; done";
        ContainerConfig { networking: networking(Mode::Bridge(mode)), ..bed.script(script) }
    };
    bed.run("web", published()).await;
    let ask = |address: &str| bed.sh(&format!("busybox nc -w 5 {address} 8080 < /dev/null"));
    let ask = |address: &str| ask(address).filter(|answer| answer == "hello\n");
    let gateway = {
        let networks = bed.api().list_networks(proto::ListNetworksRequest {}).await.unwrap();
        networks.into_inner().networks[0].gateway.clone()
    };
    gantry_tests::eventually("loopback leads to it", || ask("127.0.0.1").is_some()).await;
    gantry_tests::eventually("so does the bridge", || ask(&gateway).is_some()).await;
    bed.create("other", published()).await;
    let error = bed.start("other").await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert!(error.message().contains("8080/tcp"), "{error}");
    bed.stop("web").await;
    bed.start("other").await.unwrap();
    gantry_tests::eventually("now to the other one", || ask("127.0.0.1").is_some()).await;
    bed.stop("other").await;
    assert_eq!(ask("127.0.0.1"), None);
    bed.assert_clean().await;
}

#[tokio::test]
async fn what_goes_out_bears_the_hosts_address() {
    let Some(bed) = Bed::make(Runc).await else { return };
    // A second host behind a cable, which knows nothing of the containers' addresses.
    let cable = "unshare --net sleep 1000000 & outside=$!; echo $outside; \
                 until [ \"$(readlink /proc/$outside/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; \
                 do sleep 0.01; done; \
                 ip link add cable type veth peer name cable netns $outside; \
                 ip addr add 192.0.2.1/24 dev cable; ip link set cable up; \
                 nsenter -t $outside -n ip addr add 192.0.2.2/24 dev cable; \
                 nsenter -t $outside -n ip link set cable up";
    let outside = bed.sh(&format!("{{ {cable}; }} 2>&1 | head -1")).unwrap();
    let outside: u32 = outside.trim().parse().expect("a pid");
    let script = "until ping -c 1 -W 1 192.0.2.2; do sleep 0.05; done";
    let id = bed.run("web", on(&bed, &[], script)).await;
    gantry_tests::eventually("an answer", || bed.output(&id).contains("from 192.0.2.2")).await;
    bed.wait("web").await;
    gantry_tests::processes::kill(outside);
    bed.sh("ip link del cable").unwrap_or_default();
}

#[tokio::test]
async fn a_container_can_have_the_network_of_another() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let target = ContainerConfig {
        hostname: "target".into(),
        domainname: "example".into(),
        ..on(&bed, &[], SHOW)
    };
    let target = bed.run("target", target).await;
    bed.prints(&target, "shown\n").await;
    let joined = |reference: &str| {
        let mode = Mode::Container(proto::ContainerMode { reference: reference.into() });
        ContainerConfig { networking: networking(mode), ..bed.script(SHOW) }
    };
    let guest = bed.run("guest", joined("target")).await;
    bed.prints(&guest, "shown\n").await;
    assert_eq!(bed.output(&guest), bed.output(&target));
    assert!(bed.output(&guest).contains("target\ndomain example\n"), "{}", bed.output(&guest));
    for file in ["hosts", "hostname", "resolv.conf"] {
        let inode = |id| {
            bed.sh(&format!("stat -c %d:%i /proc/{}/root/etc/{file}", pid_of(&bed, id))).unwrap()
        };
        assert_eq!(inode(&guest), inode(&target), "{file}");
    }
    // Over two corners, and without a file that holds the namespace.
    let lonely = bed.run("lonely", bed.script(SHOW)).await;
    let friend = bed.run("friend", joined("lonely")).await;
    let third = bed.run("third", joined("friend")).await;
    for id in [&lonely, &friend, &third] {
        bed.prints(id, "shown\n").await;
        assert_eq!(bed.output(id), bed.output(&lonely));
    }
    bed.stop("target").await;
    for (name, reference) in [("stopped", "target"), ("missing", "nobody"), ("itself", "itself")] {
        bed.create(name, joined(reference)).await;
        let error = bed.start(name).await.unwrap_err();
        assert_eq!(error.code(), Code::FailedPrecondition, "{error}");
        assert_eq!(bed.inspect(name).await.unwrap().exit_code, 128);
    }
    for name in ["guest", "lonely", "friend", "third"] {
        bed.stop(name).await;
    }
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_container_can_have_the_hosts_network() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let mode = || networking(Mode::Host(proto::HostMode {}));
    let script = format!("cat /etc/hosts > /copy; {SHOW}");
    let id = bed.run("host", ContainerConfig { networking: mode(), ..bed.script(&script) }).await;
    bed.prints(&id, "shown\n").await;
    let output = bed.output(&id);
    assert!(output.starts_with(&bed.sh("readlink /proc/self/ns/net").unwrap()), "{output}");
    assert!(output.contains(&format!("\n{}", bed.sh("uname -n").unwrap())), "{output}");
    let copy = bed.sh(&format!("cat {}/root/copy", bed.directory(&id).display()));
    assert_eq!(copy, bed.sh("cat /etc/hosts"));
    let named = ContainerConfig { networking: mode(), hostname: "own".into(), ..bed.script(SHOW) };
    let named = bed.run("named", named).await;
    bed.prints(&named, "own\n").await;
    bed.stop("host").await;
    bed.stop("named").await;
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_container_can_have_loopback_only() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let script = "ip -o link | grep -c LOOPBACK,UP; ip -o link | wc -l; head -1 /etc/hosts";
    let none = bed.run("none", bed.script(script)).await;
    assert_eq!(bed.wait("none").await, 0);
    assert_eq!(bed.output(&none), "1\n1\n127.0.0.1\tlocalhost\n");
    let mode = Mode::Disabled(proto::DisabledMode {});
    let config = ContainerConfig { networking: networking(mode), ..bed.script(script) };
    let disabled = bed.run("disabled", config).await;
    bed.wait("disabled").await;
    let output = bed.output(&disabled);
    assert!(
        output.starts_with("1\n1\n") && output.contains("/etc/hosts: No such file"),
        "{output}"
    );
    bed.assert_clean().await;
}
