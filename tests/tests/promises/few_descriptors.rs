//! A server without enough descriptors: a container that it cannot examine does not count as gone.

use std::{fs, path::Path};

use gantry_api::{event_type, types::StateRequest};
use gantry_tests::{Container, Runtime, Server, eventually, improves, programs, server::Setup};

/// A server that may open as many files as the file `limit` in its working directory says.
fn limited(directory: &Path) -> Setup {
    let script = "if [ -e limit ]; then ulimit -n $(cat limit); fi\nexec \"$gantryd\" \"$@\"";
    Server::setup(Runtime::Crun).binary(&programs::wrapped_server(directory, script))
}

/// With a quarter of the descriptors that its containers need, a restarted server takes none of them
/// for ended: it shows them as it last knew them, and reattaches when it can.
#[tokio::test]
async fn a_restart_with_too_few_descriptors_makes_no_exit_up() {
    const CONTAINERS: usize = 40;
    if improves("the original ends") {
        return;
    }
    let scripts = tempfile::tempdir().unwrap();
    let Some(mut server) = limited(scripts.path()).start().await else { return };
    let mut containers: Vec<Container> = Vec::new();
    for n in 0..CONTAINERS {
        let container = server.container(&format!("c{n}")).args(&["sleep", "1000000"]);
        containers.push(container.without_pipes().create().await.unwrap());
    }
    let limit = server.work().join("limit");
    for _ in 0..2 {
        server.kill().await;
        fs::write(&limit, "64").unwrap();
        server.start_again().await;
        // All at once: who does not answer is waited for together.
        let state = server.service.api().state(StateRequest::default()).await.unwrap().into_inner();
        for container in &containers {
            let state = state.containers.iter().find(|state| state.id == container.id).unwrap();
            assert_eq!(state.status, "running");
            assert_eq!(state.processes[0].system_pid, container.init.system_pid);
        }
        server.logs("it is tried again until it succeeds").await;
    }

    let exits = |server: &Server| {
        let events = server.service.events.all();
        events.iter().filter(|event| event.r#type == event_type::EXIT).count()
    };
    assert_eq!(exits(&server), 0, "no exit was made up");

    // With descriptors, all are as they were.
    server.kill().await;
    fs::remove_file(&limit).unwrap();
    server.start_again().await;
    for container in &containers {
        assert_eq!(container.state().await.unwrap().status, "running");
        assert_eq!(container.init.kill().await, 137);
    }
    assert_eq!(exits(&server), CONTAINERS);
    let containers = server.state_dir().join("containers/types");
    eventually("no state is left", || fs::read_dir(&containers).unwrap().count() == 0).await;
    server.finish().await;
}
