//! Calls that come while the runtime is at work: clients ask as soon as they can write to a process's stdin.

use std::{fs, path::PathBuf};

use gantry_api::containerd::{
    runc::Options,
    tasks::{CloseIoRequest, GetRequest, GetResponse},
    to_any,
};
use gantry_tests::{Runtime, eventually, patiently, runtime::wrapper};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tonic::{Code, Status};

use super::{NewTask, finish, request};
use crate::{Bed, assert_refused};

/// Where a runtime waits in each `create` and `exec`, until it is let go on or is to fail.
struct Gate(PathBuf);

impl Gate {
    fn new(bed: &Bed) -> Self {
        let gate = Self(bed.server.work().join("gate"));
        mknodat(CWD, &gate.0, FileType::Fifo, Mode::RWXU, 0).expect("make a pipe");
        gate
    }

    fn options(&self, bed: &Bed) -> Option<prost_types::Any> {
        let gate = self.0.display();
        let script = format!(
            "case $command in create|exec)\n\
             touch {gate}.reached; read answer <{gate}; [ \"$answer\" = go ] || exit 1;; esac"
        );
        let runtime = wrapper(bed.server.work(), Runtime::Runc, &script);
        let binary_name = runtime.to_str().expect("UTF-8").to_owned();
        Some(to_any(&Options { binary_name, ..Options::default() }))
    }

    /// Waits until the runtime is there.
    async fn reached(&self) {
        let reached = self.0.with_extension("reached");
        eventually("the runtime is called", || fs::remove_file(&reached).is_ok()).await;
    }

    async fn answer(&self, answer: &'static str) {
        let gate = self.0.clone();
        let written = tokio::task::spawn_blocking(move || fs::write(gate, format!("{answer}\n")));
        patiently("an answer", written).await.expect("no panic").expect("write to a pipe");
    }

    /// What is answered to a Get that is asked for before the runtime goes on.
    async fn asked_early(
        &self,
        bed: &Bed,
        id: &str,
        answer: &'static str,
    ) -> Result<GetResponse, Status> {
        self.reached().await;
        let asked = GetRequest { container_id: id.to_owned(), exec_id: String::new() };
        let mut client = bed.tasks();
        let (got, ()) = tokio::join!(client.get(request("ns", asked)), self.answer(answer));
        got.map(tonic::Response::into_inner)
    }
}

async fn close_stdin(bed: &Bed, exec: &str) -> Result<(), Status> {
    let (container_id, exec_id) = ("c".to_owned(), exec.to_owned());
    let asked = CloseIoRequest { container_id, exec_id, stdin: true };
    bed.tasks().close_io(request("ns", asked)).await.map(drop)
}

#[tokio::test]
async fn stdin_may_be_closed_before_the_process_is_there() {
    let Some(bed) = Bed::start().await else { return };
    let gate = Gate::new(&bed);
    let mut new = NewTask::new(&bed, "ns", "c").sh("cat; echo over; sleep 1000000");
    new.request.options = gate.options(&bed);
    let early = async {
        gate.asked_early(&bed, "c", "go").await.expect("Get");
        close_stdin(&bed, "").await.expect("CloseIO");
    };
    let (task, ()) = tokio::join!(new.create(), early);
    let mut task = task.expect("Create");
    task.start("").await.unwrap();
    // The test still holds its end.
    task.pipes.stdout_until("over").await;

    let _held = task.exec("e", "cat; exit 6").await.unwrap();
    let early = async {
        gate.reached().await;
        close_stdin(&bed, "e").await.expect("CloseIO");
        gate.answer("go").await;
    };
    let (started, ()) = tokio::join!(task.start("e"), early);
    started.expect("Start");
    assert_eq!(patiently("Wait", task.wait("e")).await.unwrap().exit_status, 6);
    task.end().await;
    finish(bed).await;
}

#[tokio::test]
async fn who_waits_for_a_task_that_is_not_made_is_told_that_there_is_none() {
    let Some(bed) = Bed::start().await else { return };
    let gate = Gate::new(&bed);
    let mut new = NewTask::new(&bed, "ns", "c");
    new.request.options = gate.options(&bed);
    let (created, got) = tokio::join!(new.create(), gate.asked_early(&bed, "c", "fail"));
    assert_eq!(created.err().map(|error| error.code()), Some(Code::Unknown));
    assert_refused(got, Code::NotFound, "task c not found");
    finish(bed).await;
}
