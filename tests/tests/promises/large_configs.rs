//! A config.json of megabytes costs memory while it is read, and not while its container waits.

use gantry_api::types::CreateContainerRequest;
use gantry_tests::{
    NewContainer, Runtime, Server, eventually, improves, processes,
    runtime::wrapper,
    service::{Api, connect},
};
use serde_json::json;
use tokio::task::JoinSet;
use tonic::{Code, Status};

/// KiB.
const MIB: u64 = 1 << 10;

/// Creates that wait: `change` makes the configuration large.
async fn wait_for_their_turn(
    change: impl Fn(NewContainer) -> NewContainer,
) -> Option<(u64, usize)> {
    const COUNT: usize = 40;
    // The first one still hangs when the last one has its turn, on a machine however busy.
    let setup = Server::setup(Runtime::Runc).arguments(&["--start-timeout", "60m"]);
    let server = setup.start().await?;
    let script = "case $command in create|run) exec sleep 1000000;; esac";
    let runtime = wrapper(server.work(), Runtime::Runc, script);
    let runtime = runtime.to_str().unwrap();
    let mut creates = JoinSet::new();
    for number in 0..COUNT {
        let container = change(server.container(&format!("c{number}")).without_pipes());
        // With a root of its own: others have containers of these ids, too.
        let container = container.runtime(Runtime::Runc);
        let mut request = CreateContainerRequest::default();
        let container = container.request(|asked| {
            asked.runtime = runtime.to_owned();
            request = asked.clone();
        });
        let _ = container.bundle();
        creates.spawn(create(connect(&server.service.socket), request));
    }
    let dir = server.state_dir().join("containers/types");
    // Those that are not refused have a directory when it is their turn, and no answer.
    let mut refused = 0;
    let deciding = async {
        while refused + dir.read_dir().map_or(0, Iterator::count) < COUNT {
            while let Some(answer) = creates.try_join_next() {
                assert_eq!(answer.unwrap().unwrap_err().code(), Code::ResourceExhausted);
                refused += 1;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    // Hundreds of megabytes are read for it: as long as the test runner lets them.
    deciding.await;
    let resident = processes::memory(server.pid(), "VmHWM");
    println!("{COUNT} creates, {refused} refused, {resident} KiB at most");
    creates.shutdown().await;
    let is_empty = || dir.read_dir().is_ok_and(|mut entries| entries.next().is_none());
    eventually("the calls are undone", is_empty).await;
    eventually("memory goes back", || processes::memory(server.pid(), "RssAnon") < 64 * MIB).await;
    server.finish().await;
    Some((resident, refused))
}

/// Again where a busy machine has not read the file within the time that it has for that.
async fn create(mut api: Api, request: CreateContainerRequest) -> Result<(), Status> {
    loop {
        match api.create_container(request.clone()).await {
            Err(late) if late.code() == Code::DeadlineExceeded => {
                assert!(late.message().contains("cannot read"), "{late:?}");
            }
            answer => return answer.map(drop),
        }
    }
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
