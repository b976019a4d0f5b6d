//! What the earlier version was making when it was killed is removed without an event.

use std::{fs, time::Duration};

use Runtime::{Crun, Runc};
use gantry_tests::{
    NewContainer, Runtime, cgroup, events::listing, eventually, leftovers, patiently,
    runtime::wrapper, service::connect,
};
use rstest::rstest;

#[rstest]
#[tokio::test]
async fn what_was_half_made_is_removed(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values("before", "after")] moment: &str,
) {
    let work = tempfile::tempdir().unwrap();
    let file = |name: &str| work.path().join(name);
    // Once armed, the runtime hangs before it has done what it was called for, or when it has; and once
    // only, so that it works after the upgrade.
    let done = format!("{} \"$@\"", runtime.name());
    let doing = if moment == "before" { ":" } else { &done };
    let script = format!(
        "at={}/$command
        case $command in run|exec)
            if [ -e {} ] && mkdir $at.once 2>/dev/null; then
                {doing}
                echo > $at
                exec sleep 1000000
            fi;;
        esac",
        work.path().display(),
        file("armed").display()
    );
    let hanging = wrapper(work.path(), runtime, &script);
    let on_it = |container: NewContainer| {
        let container = container.runtime(runtime);
        container.request(|request| request.runtime = hanging.to_str().unwrap().to_owned())
    };

    let Some(setup) = crate::earlier(runtime) else { return };
    let Some(mut server) = setup.start().await else { return };
    let around = on_it(server.container("around")).create().await.unwrap();
    fs::write(file("armed"), "").unwrap();
    let half = tokio::spawn(on_it(server.container("half")).without_pipes().create());
    let exec = around.exec("exec").without_pipes().args(&["sleep", "1000000"]);
    let exec = tokio::spawn(exec.start());
    for command in ["run", "exec"] {
        eventually("the runtime is called", || file(command).exists()).await;
    }
    server.service.events.leave();
    server.kill().await;
    half.await.unwrap().expect_err("the server is gone");
    exec.await.unwrap().expect_err("the server is gone");

    crate::upgrade(&mut server, &[]).await;
    server.service.events.begin_again(connect(&server.service.socket)).await;
    let state = around.state().await.unwrap();
    assert_eq!((state.status.as_str(), state.processes.len()), ("running", 1));
    patiently("no process of the exec is left", async {
        while around.state().await.unwrap().pids != [around.init.system_pid] {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let exec = around.exec("exec").sh("exit 5").start().await.unwrap();
    assert_eq!(exec.exit().await, 5);
    let half = on_it(server.container("half")).sh("exit 3").create().await.unwrap();
    assert_eq!(half.init.exit().await, 3);
    assert!(cgroup::directories(&half.cgroup).is_empty());
    assert_eq!(around.init.kill().await, 137);
    let all = server.service.events.all();
    assert_eq!(all.len(), 6, "the first attempts have no events:\n{}", listing(&all));
    let nothing = || leftovers::in_state(&server.state_dir(), 1).is_empty();
    eventually("nothing is left in the state directory", nothing).await;
    server.finish().await;
}
