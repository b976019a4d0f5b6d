//! Tasks with a user namespace: their root is nobody on the host.

use std::{fs, os::unix::fs::PermissionsExt};

use gantry_api::containerd::{runc::Options, to_any, types::Mount};
use serde_json::json;

use super::{NewTask, finish};
use crate::Bed;

/// Of root in there.
const HOST_ID: u32 = 100_000;

fn mappings() -> serde_json::Value {
    json!([{ "containerID": 0, "hostID": HOST_ID, "size": 65_536 }])
}

#[tokio::test]
async fn root_reaches_its_root_file_system_and_can_open_its_output_again() {
    let Some(bed) = Bed::start().await else { return };
    // A user's own directories are closed to others, and a host's are not.
    fs::set_permissions(bed.server.work(), fs::Permissions::from_mode(0o711)).unwrap();
    let mut new = NewTask::new(&bed, "ns", "c")
        .sh("echo out >/proc/self/fd/1; echo err >/proc/self/fd/2; read line; echo $line")
        .config(|config| {
            config["root"] = json!({ "path": "rootfs" });
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
            namespaces.push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = mappings();
            config["linux"]["gidMappings"] = mappings();
        });
    new.request.rootfs = vec![Mount {
        r#type: "bind".to_owned(),
        source: bed.server.work().join("rootfs").to_str().expect("UTF-8").to_owned(),
        options: vec!["rbind".to_owned(), "ro".to_owned()],
        ..Mount::default()
    }];
    let options = Options { io_uid: HOST_ID, io_gid: HOST_ID, ..Options::default() };
    new.request.options = Some(to_any(&options));
    let mut task = new.create().await.unwrap();
    task.start("").await.unwrap();
    task.pipes.stdout_until("out").await;
    let mut exec = task.exec("e", "echo exec >/proc/self/fd/1").await.unwrap();
    task.start("e").await.unwrap();
    assert_eq!(exec.stdout_text().await, "exec\n");
    assert_eq!(task.wait("e").await.unwrap().exit_status, 0);
    task.pipes.write(b"line\n").await;
    assert_eq!(task.pipes.stdout_text().await, "line\n");
    assert_eq!(task.pipes.stderr().await, b"err\n");
    assert_eq!(task.wait("").await.unwrap().exit_status, 0);
    task.delete().await.unwrap();
    finish(bed).await;
}
