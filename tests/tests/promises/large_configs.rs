//! A config.json of megabytes costs memory while it is read, and not while its container waits.

use gantry_tests::{
    NewContainer, Runtime, Server, eventually, improves, processes, runtime::wrapper,
};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::Code;

/// KiB.
const MIB: u64 = 1 << 10;

/// Creates that wait: `change` makes the configuration large.
async fn wait_for_their_turn(
    change: impl Fn(NewContainer) -> NewContainer,
) -> Option<(u64, usize)> {
    const COUNT: usize = 40;
    let server = Server::own(Runtime::Runc).await?;
    let script = "case $command in create|run) exec sleep 1000000;; esac";
    let runtime = wrapper(server.work(), Runtime::Runc, script);
    let runtime = runtime.to_str().unwrap();
    let (mut creates, mut bundles) = (JoinSet::new(), 0);
    for number in 0..COUNT {
        let container = change(server.container(&format!("c{number}")).without_pipes());
        let container = container.request(|request| request.runtime = runtime.to_owned());
        creates.spawn(async move { container.create().await.map(drop) });
        bundles += 1;
    }
    let dir = server.state_dir().join("containers/types");
    let begun = || dir.read_dir().is_ok_and(|entries| entries.count() >= 4);
    eventually("the first have their turn", begun).await;
    let mut refused = 0;
    let deciding = async {
        while let Some(answer) = creates.join_next().await {
            assert_eq!(answer.unwrap().unwrap_err().code(), Code::ResourceExhausted);
            refused += 1;
        }
    };
    // Those that wait have no answer yet; the others have theirs soon.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(10), deciding).await;
    let resident = processes::memory(server.pid(), "VmHWM");
    println!("{bundles} creates, {refused} refused, {resident} KiB at most");
    creates.shutdown().await;
    let is_empty = || dir.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    eventually("the calls are undone", is_empty).await;
    eventually("memory goes back", || processes::memory(server.pid(), "VmRSS") < 64 * MIB).await;
    server.finish().await;
    Some((resident, refused))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_does_not_need_is_not_held() {
    if improves("it reads it all into memory") {
        return;
    }
    let text = "x".repeat(10 << 20);
    let large = |container: NewContainer| {
        container.config(|config| config["annotations"] = json!({ "large": text.clone() }))
    };
    let Some((most, refused)) = wait_for_their_turn(large).await else { return };
    assert_eq!(refused, 0);
    // A few are read at the same time.
    assert!(most < 250 * MIB, "{most} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_needs_is_counted() {
    if improves("it holds it all") {
        return;
    }
    let env = vec!["X=".to_owned() + &"x".repeat(100 << 10); 100];
    let large = |container: NewContainer| {
        container.config(|config| config["process"]["env"] = json!(env.clone()))
    };
    let Some((most, refused)) = wait_for_their_turn(large).await else { return };
    // Of 256 MiB, each has 20.
    assert!((20..=30).contains(&refused), "{refused} refused");
    assert!(most < 800 * MIB, "{most} KiB");
}
