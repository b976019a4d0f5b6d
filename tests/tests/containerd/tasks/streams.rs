//! Streams and terminals of tasks.

use gantry_api::containerd::tasks::{CloseIoRequest, ExecProcessRequest, ResizePtyRequest};
use gantry_tests::{eventually, patiently};
use serde_json::json;
use tonic::{Code, Status};

use super::{NewTask, Task, finish, request};
use crate::{Bed, assert_refused};

async fn close_stdin(bed: &Bed, task: &Task<'_>, exec: &str, stdin: bool) -> Result<(), Status> {
    let (container_id, exec_id) = (task.id.clone(), exec.to_owned());
    let asked = CloseIoRequest { container_id, exec_id, stdin };
    bed.tasks().close_io(request(&task.namespace, asked)).await.map(drop)
}

async fn resize(
    bed: &Bed,
    task: &Task<'_>,
    exec: &str,
    (width, height): (u32, u32),
) -> Result<(), Status> {
    let (container_id, exec_id) = (task.id.clone(), exec.to_owned());
    let asked = ResizePtyRequest { container_id, exec_id, width, height };
    bed.tasks().resize_pty(request(&task.namespace, asked)).await.map(drop)
}

#[tokio::test]
async fn stdin_ends_when_it_is_closed_though_the_client_holds_its_end() {
    let Some(bed) = Bed::start().await else { return };
    let mut task = NewTask::new(&bed, "ns", "c").sh("cat; exit 4").create().await.unwrap();
    task.start("").await.unwrap();
    task.pipes.write(b"hello").await;
    task.pipes.stdout_until("hello").await;
    // It says what is to be closed, and nothing is.
    close_stdin(&bed, &task, "", false).await.unwrap();
    task.pipes.write(b"more").await;
    task.pipes.stdout_until("more").await;
    let mut exec = task.exec("e", "cat; exit 6").await.unwrap();
    task.start("e").await.unwrap();
    exec.write(b"exec").await;
    exec.stdout_until("exec").await;
    close_stdin(&bed, &task, "e", true).await.unwrap();
    assert_eq!(patiently("Wait", task.wait("e")).await.unwrap().exit_status, 6);
    close_stdin(&bed, &task, "e", true).await.unwrap();
    close_stdin(&bed, &task, "", true).await.unwrap();
    assert_eq!(patiently("Wait", task.wait("")).await.unwrap().exit_status, 4);
    close_stdin(&bed, &task, "", true).await.unwrap();
    let unknown = "process does not exist f: not found";
    for stdin in [true, false] {
        assert_refused(close_stdin(&bed, &task, "f", stdin).await, Code::NotFound, unknown);
    }
    task.delete().await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn a_terminal_has_the_size_that_it_is_given() {
    let Some(bed) = Bed::start().await else { return };
    let script = "trap 'stty size' WINCH; echo ready; while true; do sleep 0.1; done";
    let mut task = NewTask::new(&bed, "ns", "c").terminal().sh(script).create().await.unwrap();
    assert!(task.get("").await.unwrap().terminal);
    task.start("").await.unwrap();
    task.pipes.stdout_until("ready").await;
    resize(&bed, &task, "", (91, 37)).await.unwrap();
    task.pipes.stdout_until("37 91").await;
    let mut exec = task
        .exec_with("e", json!({ "args": ["sh", "-c", script] }), |request| {
            request.terminal = true;
            request.stderr.clear();
        })
        .await
        .unwrap();
    // There is no terminal yet.
    resize(&bed, &task, "e", (1, 1)).await.unwrap();
    close_stdin(&bed, &task, "e", true).await.unwrap();
    task.start("e").await.unwrap();
    exec.stdout_until("ready").await;
    resize(&bed, &task, "e", (93, 39)).await.unwrap();
    exec.stdout_until("39 93").await;
    let wide = resize(&bed, &task, "", (65_536, 1)).await.unwrap_err();
    assert!(wide.code() == Code::InvalidArgument && wide.message().starts_with("width: "));
    task.kill("", 9).await.unwrap();
    task.wait("").await.unwrap();
    let stopped = "cannot resize a stopped container: unknown";
    assert_refused(resize(&bed, &task, "", (1, 1)).await, Code::Unknown, stopped);
    assert_refused(resize(&bed, &task, "e", (1, 1)).await, Code::Unknown, stopped);
    task.delete().await.unwrap();
    finish(bed).await;
}

#[tokio::test]
async fn without_a_terminal_a_size_has_no_effect() {
    let Some(bed) = Bed::start().await else { return };
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    task.start("").await.unwrap();
    resize(&bed, &task, "", (80, 24)).await.unwrap();
    resize(&bed, &task, "", (0, 0)).await.unwrap();
    task.exec("e", "sleep 1000").await.unwrap();
    resize(&bed, &task, "e", (80, 24)).await.unwrap();
    task.start("e").await.unwrap();
    resize(&bed, &task, "e", (80, 24)).await.unwrap();
    let unknown = "process does not exist f: not found";
    assert_refused(resize(&bed, &task, "f", (80, 24)).await, Code::NotFound, unknown);
    task.end().await;
    finish(bed).await;
}

#[tokio::test]
async fn output_goes_to_a_file_that_is_named_by_a_uri() {
    let Some(bed) = Bed::start().await else { return };
    let log = bed.server.work().join("log");
    let uri = format!("file://{}", log.display());
    let new = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    new.start("").await.unwrap();
    new.exec_with("e", json!({ "args": ["sh", "-c", "echo out; echo err >&2"] }), |request| {
        request.stdin.clear();
        request.stdout.clone_from(&uri);
        request.stderr.clone_from(&uri);
    })
    .await
    .unwrap();
    assert_eq!(new.get("e").await.unwrap().stdout, uri);
    new.start("e").await.unwrap();
    assert_eq!(new.wait("e").await.unwrap().exit_status, 0);
    let written = || std::fs::read_to_string(&log).is_ok_and(|text| text == "out\nerr\n");
    eventually("both streams are in the file", written).await;
    new.end().await;
    finish(bed).await;
}

/// It is ready with a byte; one that closes the descriptor without has failed.
#[tokio::test]
async fn output_goes_to_a_program_that_says_when_it_is_ready() {
    let Some(bed) = Bed::start().await else { return };
    let (program, log) = (bed.server.work().join("logger"), bed.server.work().join("log"));
    // What is executed was written by nobody who still has it open.
    let script = "[ $1 = ready ] && printf x >&5; exec 5>&-; cat <&3 >$2; cat <&4 >>$2";
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let task = NewTask::new(&bed, "ns", "c").create().await.unwrap();
    task.start("").await.unwrap();
    for (exec, key) in [("good", "ready"), ("bad", "silent")] {
        let uri = format!("binary-v2://{}?{key}={}", program.display(), log.display());
        let run = json!({ "args": ["sh", "-c", "echo out; echo err >&2"] });
        let with_logger = |request: &mut ExecProcessRequest| {
            request.stdin.clear();
            request.stdout.clone_from(&uri);
            request.stderr.clone_from(&uri);
        };
        task.exec_with(exec, run, with_logger).await.unwrap();
    }
    task.start("good").await.unwrap();
    assert_eq!(task.wait("good").await.unwrap().exit_status, 0);
    let written = || std::fs::read_to_string(&log).is_ok_and(|text| text == "out\nerr\n");
    eventually("the program has written both streams", written).await;
    let failed = task.start("bad").await.unwrap_err();
    assert!(failed.message().contains("logger"), "{failed:?}");
    task.end().await;
    finish(bed).await;
}
