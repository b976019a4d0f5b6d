//! Containers are stored, found, started, ended and removed.

use std::fs;

use Runtime::{Crun, Runc};
use gantry_daemon::proto::{self, ContainerStatus, root_filesystem::Source};
use gantry_tests::Runtime;
use rstest::rstest;
use tonic::Code;

use crate::Bed;

#[rstest]
#[tokio::test]
async fn runs_a_program_and_keeps_its_exit_code(#[values(Runc, Crun)] runtime: Runtime) {
    let Some(bed) = Bed::make(runtime).await else { return };
    let id = bed.run("web", bed.script("hostname; echo out; echo err >&2; exit 7")).await;
    assert_eq!(bed.wait("web").await, 7);
    assert_eq!(bed.wait(&id).await, 7, "it can be asked again");
    let container = bed.inspect("web").await.unwrap();
    assert_eq!(container.status(), ContainerStatus::Exited);
    assert_eq!((container.pid, container.exit_code, container.error.as_str()), (0, 7, ""));
    assert_eq!(bed.output(&id), format!("{}\nout\nerr\n", &id[..12]));
    bed.assert_clean().await;
    bed.start("web").await.unwrap();
    assert_eq!(bed.wait("web").await, 7);
    bed.remove("web", false).await.unwrap();
    assert_eq!(bed.inspect("web").await.unwrap_err().code(), Code::NotFound);
    assert!(!bed.directory(&id).exists());
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_container_is_found_by_id_name_and_unique_prefix() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let mut ids = Vec::new();
    // Of 17 ids two begin with the same digit.
    for index in 0..17 {
        ids.push(bed.create(&format!("c-{index}"), bed.script("true")).await);
    }
    assert_eq!(bed.inspect(&ids[3]).await.unwrap().name, "c-3");
    assert_eq!(bed.inspect("c-5").await.unwrap().id, ids[5]);
    assert_eq!(bed.inspect(&ids[7][..16]).await.unwrap().name, "c-7");
    let twice = |id: &&String| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1;
    let id = ids.iter().find(twice).unwrap();
    let error = bed.inspect(&id[..1]).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    for fitting in ids.iter().filter(|other| other[..1] == id[..1]) {
        assert!(error.message().contains(fitting), "{error}");
    }
    let taken = proto::RenameContainerRequest { reference: "c-1".into(), name: "c-2".into() };
    let error = bed.api().rename_container(taken).await.unwrap_err();
    assert_eq!(error.code(), Code::AlreadyExists);
    let rename = proto::RenameContainerRequest { reference: "c-1".into(), name: "new".into() };
    bed.api().rename_container(rename).await.unwrap();
    assert_eq!(bed.inspect("new").await.unwrap().id, ids[1]);
    assert_eq!(bed.inspect("c-1").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn a_running_container_is_started_once_and_removed_by_force_only() {
    let Some(bed) = Bed::make(Runc).await else { return };
    bed.run("web", bed.script("exec sleep 1000000")).await;
    let pid = bed.inspect("web").await.unwrap().pid;
    bed.start("web").await.unwrap();
    assert_eq!(bed.inspect("web").await.unwrap().pid, pid);
    let error = bed.remove("web", false).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    assert_eq!(bed.inspect("web").await.unwrap().status(), ContainerStatus::Running);
    bed.remove("web", true).await.unwrap();
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_stop_asks_first_and_kills_then() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let script = "trap 'exit 3' USR1; echo ready; while :; do sleep 0.01; done";
    let mut config = bed.script(script);
    config.stop_signal = "SIGUSR1".into();
    config.stop_timeout_seconds = Some(60);
    let id = bed.run("polite", config).await;
    bed.prints(&id, "ready").await;
    bed.stop("polite").await;
    assert_eq!(bed.wait("polite").await, 3);
    bed.stop("polite").await;

    bed.run("deaf", bed.script("trap '' TERM; exec sleep 1000000")).await;
    bed.stop("deaf").await;
    assert_eq!(bed.wait("deaf").await, 128 + 9);
    let kill = proto::KillContainerRequest { reference: "deaf".into(), signal: String::new() };
    let error = bed.api().kill_container(kill).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    bed.assert_clean().await;
}

#[tokio::test]
async fn removes_itself_at_its_end_and_after_a_failed_start() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let mut config = bed.script("exec sleep 1000000");
    config.auto_remove = true;
    bed.run("gone", config.clone()).await;
    bed.stop("gone").await;
    gone(&bed, "gone").await;
    config.args = vec!["/no/such/program".into()];
    bed.create("never", config).await;
    bed.start("never").await.unwrap_err();
    gone(&bed, "never").await;
    bed.assert_clean().await;
}

async fn gone(bed: &Bed, name: &str) {
    let removing = async {
        while bed.inspect(name).await.is_ok() {
            // Removed right after its end.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    gantry_tests::patiently("its removal", removing).await;
}

#[tokio::test]
async fn a_root_filesystem_is_mounted_once_for_all_who_need_it() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let id = bed.create("web", bed.script("echo changed > /file; exec sleep 1000000")).await;
    let request = || proto::MountContainerRequest { reference: "web".into() };
    let path = bed.api().mount_container(request()).await.unwrap().into_inner().path;
    bed.start("web").await.unwrap();
    bed.api().mount_container(request()).await.unwrap();
    let count = || bed.sh(&format!("grep -c ' {path} ' /proc/self/mountinfo || true")).unwrap();
    let read = || bed.sh(&format!("cat {path}/file"));
    gantry_tests::eventually("the container writes", || read() == Some("changed\n".into())).await;
    assert_eq!(count(), "1\n");
    bed.stop("web").await;
    assert_eq!(read(), Some("changed\n".into()), "others still need it");
    let unmount = || proto::UnmountContainerRequest { reference: "web".into() };
    bed.api().unmount_container(unmount()).await.unwrap();
    assert_eq!(count(), "1\n");
    bed.api().unmount_container(unmount()).await.unwrap();
    assert_eq!(count(), "0\n");
    bed.api().unmount_container(unmount()).await.unwrap_err();
    assert!(!bed.path("layer/file").exists(), "a layer is never written");
    assert_eq!(fs::read_to_string(bed.directory(&id).join("upper/file")).unwrap(), "changed\n");
    bed.assert_clean().await;
}

#[tokio::test]
async fn a_directory_is_used_as_it_is() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let mut config = bed.script("touch /file; touch /mnt/file; cat /mnt/given");
    let directory = bed.path("layer").to_str().unwrap().to_owned();
    config.root =
        Some(proto::RootFilesystem { source: Some(Source::Directory(directory)), read_only: true });
    fs::create_dir(bed.path("layer/mnt")).unwrap();
    fs::create_dir(bed.path("volume")).unwrap();
    fs::write(bed.path("volume/given"), "volume\n").unwrap();
    config.mounts = vec![proto::BindMount {
        source: bed.path("volume").to_str().unwrap().to_owned(),
        destination: "/mnt".into(),
        read_only: false,
    }];
    let id = bed.run("web", config).await;
    assert_eq!(bed.wait("web").await, 0);
    assert!(bed.output(&id).ends_with("volume\n"), "{}", bed.output(&id));
    assert!(bed.path("volume/file").exists() && !bed.path("layer/file").exists());
    bed.assert_clean().await;
}

#[tokio::test]
async fn the_default_filter_keeps_programs_from_the_host() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let mut config = bed.script("unshare -U true; echo status $?");
    let id = bed.run("filtered", config.clone()).await;
    bed.wait("filtered").await;
    assert!(!bed.output(&id).contains("status 0"), "{}", bed.output(&id));
    config.seccomp_unconfined = true;
    let id = bed.run("unconfined", config).await;
    bed.wait("unconfined").await;
    assert!(bed.output(&id).contains("status 0"), "{}", bed.output(&id));
}

#[tokio::test]
async fn health_is_served() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let mut health = tonic_health::pb::health_client::HealthClient::new(bed.channel());
    let service = "gantry.daemon.v1.DaemonService".to_owned();
    let request = tonic_health::pb::HealthCheckRequest { service };
    let answer = health.check(request).await.unwrap().into_inner();
    assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
}

#[tokio::test]
async fn a_checkpoint_is_restored_by_the_runtime_that_was_named() {
    let Some(bed) = Bed::make(Runc).await else { return };
    // CRIU works on few machines; that the runtime is asked rightly can be seen on all.
    let script =
        format!("[ $command = restore ] && echo \"$*\" > {}/asked", bed.path("").display());
    let runtime = gantry_tests::runtime::wrapper(&bed.path(""), Runc, &script);
    let mut config = bed.script("true");
    config.runtime = runtime.to_str().unwrap().to_owned();
    config.runtime_args = Runc.arguments(&bed.path("runc"));
    bed.create("web", config).await;
    let dir = bed.path("checkpoints");
    fs::create_dir_all(dir.join("c1")).unwrap();
    fs::write(dir.join("c1/config.json"), r#"{"name":"c1"}"#).unwrap();
    let request = |name: &str| proto::StartContainerRequest {
        reference: "web".into(),
        checkpoint: name.into(),
        checkpoint_dir: dir.to_str().unwrap().to_owned(),
    };
    let error = bed.api().start_container(request("c2")).await.unwrap_err();
    assert!(error.message().contains("checkpoint"), "{error}");
    assert!(!bed.path("asked").exists());
    bed.api().start_container(request("c1")).await.unwrap_err();
    let asked = fs::read_to_string(bed.path("asked")).unwrap();
    assert!(asked.contains(dir.join("c1").to_str().unwrap()), "{asked}");
    assert!(asked.starts_with(&Runc.arguments(&bed.path("runc")).join(" ")), "{asked}");
    bed.assert_clean().await;
}
