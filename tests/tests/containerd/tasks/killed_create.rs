//! A task whose making is cut short: its server, its shim and its runtime are killed, one after the other, so that
//! nobody has noted what the runtime has made.

use gantry_api::containerd::{runc::Options, to_any};
use gantry_tests::{Runtime, Server, eventually, patiently, processes, runtime::HangingRuntime};
use rstest::rstest;
use rustix::process::Signal;

use super::{NewTask, finish};
use crate::{Bed, of};

#[rstest]
#[tokio::test]
async fn the_next_server_removes_what_was_made(
    #[values(Runtime::Runc, Runtime::Crun)] runtime: Runtime,
) {
    let Some(mut bed) = Bed::start_with(Server::setup(runtime)).await else { return };
    let hanging = HangingRuntime::new(bed.server.work(), runtime);
    let binary_name = hanging.path.to_str().expect("UTF-8").to_owned();
    let options = || Some(to_any(&Options { binary_name: binary_name.clone(), ..<_>::default() }));
    let mut new = NewTask::new(&bed, "ns", "c");
    new.create_container().await.unwrap();
    new.request.options = options();
    let (mut tasks, request) = (bed.tasks(), of("ns", new.request.clone()));
    let making = tokio::spawn(async move { tasks.create(request).await });
    eventually("the runtime has made it", || hanging.has_made()).await;
    let shim = processes::busy_shim(bed.server.work(), &bed.server.service.cgroup);
    // Otherwise the shim would end what it makes as soon as its server is gone.
    processes::signal(shim, Signal::STOP);
    bed.server.kill().await;
    making.await.unwrap().unwrap_err();
    processes::signal(shim, Signal::KILL);

    hanging.hang_no_more();
    bed.server.start_again().await;
    let mut again = NewTask::new(&bed, "ns", "c");
    again.request.options = options();
    let task = again.create().await.unwrap();
    task.start("").await.unwrap();
    task.kill("", 9).await.unwrap();
    assert_eq!(patiently("Wait", task.wait("")).await.unwrap().exit_status, 137);
    task.delete().await.unwrap();
    finish(bed).await;
}
