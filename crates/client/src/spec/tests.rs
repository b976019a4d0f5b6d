use serde_json::{Value, json};

use super::*;

fn new() -> DefaultSpec {
    DefaultSpec::new("/srv/root", ["sh".to_owned()])
}

fn built(spec: DefaultSpec) -> Value {
    serde_json::to_value(spec.build().unwrap()).unwrap()
}

#[test]
fn is_private_and_unprivileged() {
    let spec = built(new());
    let namespaces = spec["linux"]["namespaces"].as_array().unwrap();
    let kinds: Vec<_> = namespaces.iter().map(|n| n["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "network"]);
    assert_eq!(spec["root"], json!({ "path": "/srv/root", "readonly": false }));
    let process = &spec["process"];
    assert_eq!(process["noNewPrivileges"], true);
    assert_eq!((&process["cwd"], &process["user"]["uid"]), (&json!("/"), &json!(0)));
    assert_eq!(process["env"], json!([defaults::PATH]));
    for set in ["bounding", "effective", "permitted"] {
        let count = process["capabilities"][set].as_array().unwrap().len();
        assert_eq!(count, defaults::CAPABILITIES.len(), "{set}");
    }
    for absent in ["inheritable", "ambient"] {
        assert!(process["capabilities"].get(absent).is_none(), "{absent}");
    }
    for absent in ["rlimits", "oomScoreAdj", "consoleSize", "apparmorProfile", "selinuxLabel"] {
        assert!(process.get(absent).is_none(), "{absent}");
    }
    for absent in ["seccomp", "cgroupsPath", "sysctl", "devices"] {
        assert!(spec["linux"].get(absent).is_none(), "{absent}");
    }
    let devices = &spec["linux"]["resources"]["devices"];
    assert_eq!(devices, &json!([{ "allow": false, "access": "rwm" }]));
    assert!(spec.get("hostname").is_none());
}

/// A mount below another one comes after it.
#[test]
fn mounts_are_in_the_order_that_works() {
    let spec = built(new());
    let mounts = spec["mounts"].as_array().unwrap();
    let destinations: Vec<_> = mounts.iter().map(|m| m["destination"].as_str().unwrap()).collect();
    for (index, outer) in destinations.iter().enumerate() {
        let below = format!("{outer}/");
        assert!(!destinations[..index].iter().any(|d| d.starts_with(&below)), "{outer}");
    }
}

#[test]
fn wishes_are_met() {
    let mount = mount(("/mnt", "tmpfs", "ro")).unwrap();
    let spec = new()
        .read_only_root(true)
        .env(["PATH=/bin".to_owned(), "A=1".to_owned(), "A=2".to_owned()])
        .cwd("/srv")
        .user(types::User { uid: 5, gid: 6, additional_gids: vec![7] })
        .hostname("web")
        .terminal(true)
        .console_size(ConsoleSize { width: 80, height: 24 })
        .add_capabilities([Capability::NetAdmin])
        .drop_capabilities([Capability::Chown])
        .mounts([mount])
        .sysctl([("kernel.domainname".to_owned(), "example".to_owned())])
        .seccomp(seccomp_profile().unwrap())
        .cgroups_path("/gantry/web");
    let spec = built(spec.memory(1 << 20).pids(7).cpu_shares(512));
    assert_eq!(spec["root"]["readonly"], true);
    let process = &spec["process"];
    assert_eq!(process["env"], json!(["HOSTNAME=web", "TERM=xterm", "PATH=/bin", "A=2"]));
    assert_eq!(process["user"], json!({ "uid": 5, "gid": 6, "additionalGids": [7] }));
    assert_eq!(process["cwd"], "/srv");
    assert_eq!(process["consoleSize"], json!({ "width": 80, "height": 24 }));
    let bounding = process["capabilities"]["bounding"].as_array().unwrap();
    assert!(bounding.contains(&json!("CAP_NET_ADMIN")) && !bounding.contains(&json!("CAP_CHOWN")));
    assert_eq!(spec["mounts"].as_array().unwrap().last().unwrap()["destination"], "/mnt");
    let linux = &spec["linux"];
    assert_eq!(linux["cgroupsPath"], "/gantry/web");
    assert_eq!(linux["sysctl"], json!({ "kernel.domainname": "example" }));
    assert_eq!(linux["seccomp"]["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(linux["resources"]["memory"]["limit"], 1 << 20);
    assert_eq!(linux["resources"]["pids"]["limit"], 7);
    assert_eq!(linux["resources"]["cpu"]["shares"], 512);
    new().memory(u64::MAX).build().unwrap_err();
}

#[test]
fn the_network_is_the_one_that_is_wanted() {
    let network = |spec: Value| {
        let all = spec["linux"]["namespaces"].as_array().unwrap().clone();
        all.into_iter().find(|n| n["type"] == "network")
    };
    let at = built(new().network(Network::At("/run/netns/web".into())));
    assert_eq!(network(at), Some(json!({ "type": "network", "path": "/run/netns/web" })));
    assert_eq!(network(built(new().network(Network::Host))), None);
}
