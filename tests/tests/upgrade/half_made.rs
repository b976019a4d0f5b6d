//! What the earlier version was about to make when it was killed is removed: nobody was told of it.

use Runtime::{Crun, Runc};
use gantry_tests::{
    Runtime, cgroup, events::listing, eventually, leftovers, runtime::wrapper, service::connect,
};
use rstest::rstest;

#[rstest]
#[tokio::test]
async fn what_was_half_made_is_removed(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values("before", "after")] moment: &str,
) {
    let work = tempfile::tempdir().unwrap();
    let reached = |command: &str| work.path().join(command);
    // The runtime hangs before it has done what it was called for, or when it has.
    let hang = format!("echo > {}/$command; exec sleep 1000000", work.path().display());
    let done = format!("{} \"$@\";", runtime.name());
    let doing = if moment == "before" { "" } else { &done };
    let script = format!("case $command in run|exec) {doing} {hang};; esac");
    let hanging = wrapper(work.path(), runtime, &script);

    let Some(setup) = crate::earlier(runtime) else { return };
    let Some(mut server) = setup.start().await else { return };
    let around = server.container("around").create().await.unwrap();
    let half = server.container("half").runtime(runtime).without_pipes();
    let half = half.request(|request| request.runtime = hanging.to_str().unwrap().to_owned());
    let half = tokio::spawn(half.create());
    eventually("the runtime is called", || reached("run").exists()).await;
    server.service.events.leave();
    server.kill().await;
    half.await.unwrap().expect_err("the server is gone");

    crate::upgrade(&mut server, &[]).await;
    server.service.events.begin_again(connect(&server.service.socket)).await;
    let half = server.container("half").sh("exit 3").create().await.unwrap();
    assert_eq!(half.init.exit().await, 3);
    assert!(cgroup::directories(&half.cgroup).is_empty());
    assert_eq!(around.state().await.unwrap().status, "running");
    assert_eq!(around.init.kill().await, 137);
    let all = server.service.events.all();
    assert_eq!(all.len(), 4, "the first attempt is not told of:\n{}", listing(&all));
    let nothing = || leftovers::in_state(&server.state_dir(), 1).is_empty();
    eventually("nothing is left in the state directory", nothing).await;
    server.finish().await;
}
