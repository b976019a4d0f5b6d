//! Shims and servers of two protocol versions work with each other, in both directions. An upgrade from an
//! earlier build is `tests/tests/upgrade`.

use gantry_tests::{PATIENCE, Runtime, Server, Variant, variants};

/// Everything that a shim of the first build is asked by a server of the second, and back again.
async fn upgrade(first: &Variant, second: &Variant) {
    let setup = Server::setup(Runtime::Runc).variant(first);
    let Some(mut server) = setup.start().await else { return };
    let mut container = server.container("c").sh("cat; exit 7").create().await.unwrap();
    let mut exec = container.exec("e").sh("read line; exit 8").start().await.unwrap();
    let mut terminal = server.container("t").terminal().args(&["sh"]).create().await.unwrap();
    let paused = server.container("p").create().await.unwrap();
    paused.pause().await;
    let states = [&container, &terminal, &paused].map(|container| container.state());
    let before: Vec<_> = futures(states).await;

    server.kill().await;
    exec.pipes().write(b"now\n").await;
    assert!(exec.ends_within(PATIENCE).await);
    server.start_again_as(second, &[]).await;
    assert_eq!(exec.exit().await, 8, "ended without a server");
    let states = [&container, &terminal, &paused].map(|container| container.state());
    let mut after: Vec<_> = futures(states).await;
    assert_eq!(after[0].processes.len(), 1);
    after[0].clone_from(&before[0]);
    assert_eq!(after, before, "as before");

    terminal.init.resize(91, 34).await.unwrap();
    terminal.init.pipes().write(b"stty size; exit 4\n").await;
    terminal.init.pipes().stdout_until("34 91").await;
    assert_eq!(terminal.init.exit().await, 4);
    paused.resume().await;
    let newer = container.exec("newer").sh("exit 9").start().await.unwrap();
    assert_eq!(newer.exit().await, 9);
    let stays = container.exec("stays").args(&["sleep", "1000000"]).start().await.unwrap();

    server.kill().await;
    server.start_again_as(first, &[]).await;
    assert_eq!(stays.kill().await, 137, "started by a newer one");
    container.init.pipes().write(b"last words").await;
    container.init.pipes().stdin = None;
    container.init.close_stdin().await.unwrap();
    assert_eq!(container.init.pipes().stdout_text().await, "last words");
    assert_eq!(container.init.exit().await, 7);
    assert_eq!(paused.init.kill().await, 137);
    server.finish().await;
}

async fn futures<T, E: std::fmt::Debug>(
    futures: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>,
) -> Vec<T> {
    let mut results = Vec::new();
    for future in futures {
        results.push(future.await.unwrap());
    }
    results
}

#[tokio::test]
async fn shims_of_this_version_and_a_server_of_the_next() {
    let Some(next) = variants::find("next") else { return };
    upgrade(&Variant::under_test(), &next).await;
}

#[tokio::test]
async fn shims_of_the_next_version_and_a_server_of_this() {
    let Some(next) = variants::find("next") else { return };
    upgrade(&next, &Variant::under_test()).await;
}
