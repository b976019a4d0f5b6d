//! The directory that runtimes work in: the bundle. Programs around a runtime read config.json there, whatever they are
//! called for.

use std::fs;

use gantry_api::containerd::{runc::Options, to_any};
use gantry_tests::{Runtime, Server, runtime::wrapper};
use rustix::process::Signal;

use super::{NewTask, finish};
use crate::Bed;

#[tokio::test]
async fn a_runtime_works_in_the_bundle() {
    let Some(mut bed) = Bed::start_with(Server::setup(Runtime::Runc)).await else { return };
    let log = bed.server.work().join("calls");
    let script = format!(
        "[ -z \"$command\" ] || echo \"$command $(pwd -P) $(head -c1 config.json)\" >>{}",
        log.display()
    );
    let runtime = wrapper(bed.server.work(), Runtime::Runc, &script);
    let binary_name = runtime.to_str().expect("UTF-8").to_owned();
    let kept = {
        let mut new = NewTask::new(&bed, "ns", "c").sh("read line");
        new.request.options = Some(to_any(&Options { binary_name, ..Options::default() }));
        let task = new.create().await.unwrap();
        task.start("").await.unwrap();
        task.exec("e", "exit 3").await.unwrap();
        task.start("e").await.unwrap();
        assert_eq!(task.wait("e").await.unwrap().exit_status, 3);
        task.kept()
    };
    // A server that finds the task knows no less.
    bed.server.end(Signal::KILL).await;
    bed.server.start_again().await;
    let mut task = kept.again(&bed);
    task.exec("f", "exit 4").await.unwrap();
    task.start("f").await.unwrap();
    assert_eq!(task.wait("f").await.unwrap().exit_status, 4);
    task.pipes.write(b"line\n").await;
    assert_eq!(task.wait("").await.unwrap().exit_status, 0);
    task.delete().await.unwrap();

    let bundle = bed.server.state_dir().join("io.containerd.runtime.v2.task/ns/c");
    let calls = fs::read_to_string(&log).unwrap();
    // A question about a task that is deleted has no bundle any more.
    for call in calls.lines().filter(|call| !call.starts_with("state ")) {
        let (command, rest) = call.split_once(' ').expect("two words");
        assert_eq!(rest, format!("{} {{", bundle.display()), "{command}");
    }
    for command in ["create", "start", "exec", "delete"] {
        let times = calls.lines().filter(|call| call.starts_with(&format!("{command} "))).count();
        assert_eq!(times, if command == "exec" { 2 } else { 1 }, "{command}: {calls}");
    }
    finish(bed).await;
}
