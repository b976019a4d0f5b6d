//! A start that fails at any step leaves nothing, and can be tried again.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use Runtime::Runc;
use gantry_daemon::proto::{self, ContainerConfig, ContainerStatus};
use gantry_tests::Runtime;
use rstest::rstest;
use tonic::Code;

use crate::{Bed, bed::bridge};

/// What is in the way of a start, by the step that fails.
#[derive(Debug, Clone, Copy)]
enum Obstacle {
    /// A layer is missing.
    Mount,
    /// The addresses cannot be written down.
    Reservation,
    /// There is something where the namespace is to be held.
    Namespace,
    /// netavark fails at once.
    NetworkBefore,
    /// netavark fails when all is done.
    NetworkAfter,
    /// A file of the container cannot be written.
    Files,
    /// The source of a mount is missing.
    Spec,
    /// There is no such program.
    NoProgram,
    /// The program cannot be run.
    NotExecutable,
    /// There is no such runtime.
    NoRuntime,
}

impl Obstacle {
    /// Puts it into the way, or takes it out.
    fn set(self, bed: &Bed, id: &str, is_there: bool) {
        let directory = bed.directory(id);
        match self {
            Self::Mount => rename(&bed.path("layer"), &bed.path("layer.away"), is_there),
            Self::Reservation => make_directory(&directory.join("container.json.new"), is_there),
            Self::Namespace => make_directory(&bed.path("run/netns").join(id), is_there),
            Self::NetworkBefore => make_directory(&bed.path("fail-before"), is_there),
            Self::NetworkAfter => make_directory(&bed.path("fail-after"), is_there),
            Self::Files => make_directory(&directory.join("resolv.conf"), is_there),
            Self::Spec => rename(&bed.path("volume"), &bed.path("volume.away"), is_there),
            Self::NoProgram => {
                rename(&bed.path("layer/bin/program"), &bed.path("layer/program"), is_there);
            }
            Self::NotExecutable => {
                let mode = fs::Permissions::from_mode(if is_there { 0o644 } else { 0o755 });
                fs::set_permissions(bed.path("layer/bin/program"), mode).unwrap();
            }
            Self::NoRuntime => rename(&bed.path("runtime"), &bed.path("runtime.away"), is_there),
        }
    }

    /// Exit code, and a part of the error.
    fn outcome(self) -> (u32, &'static str) {
        match self {
            Self::Mount => (128, "root.layers: cannot use"),
            Self::Reservation => (128, "cannot write"),
            Self::Namespace => (128, "cannot create"),
            Self::NetworkBefore | Self::NetworkAfter => (128, "netavark setup"),
            Self::Files => (128, "resolv.conf"),
            Self::Spec => (128, "mounts.source: cannot use"),
            Self::NoProgram => (127, "no such file or directory"),
            Self::NotExecutable => (126, "permission denied"),
            Self::NoRuntime => (128, "runtime"),
        }
    }

    fn code(self) -> Code {
        match self {
            Self::Mount | Self::Spec => Code::FailedPrecondition,
            // gantryd's code, which says that the caller can fix it.
            Self::NoProgram | Self::NotExecutable | Self::NoRuntime => Code::InvalidArgument,
            _ => Code::Internal,
        }
    }
}

fn rename(from: &Path, to: &Path, away: bool) {
    if away { fs::rename(from, to) } else { fs::rename(to, from) }.unwrap();
}

fn make_directory(path: &Path, is_there: bool) {
    if is_there { fs::create_dir(path) } else { fs::remove_dir(path) }.unwrap();
}

#[rstest]
#[tokio::test]
async fn leaves_nothing(
    #[values(
        Obstacle::Mount,
        Obstacle::Reservation,
        Obstacle::Namespace,
        Obstacle::NetworkBefore,
        Obstacle::NetworkAfter,
        Obstacle::Files,
        Obstacle::Spec,
        Obstacle::NoProgram,
        Obstacle::NotExecutable,
        Obstacle::NoRuntime
    )]
    obstacle: Obstacle,
) {
    let Some(bed) = Bed::make(Runc).await else { return };
    let id = bed.create("web", config(&bed)).await;
    obstacle.set(&bed, &id, true);
    let error = bed.start("web").await.unwrap_err();
    obstacle.set(&bed, &id, false);
    let (exit_code, message) = obstacle.outcome();
    assert!(error.message().contains(message), "{error}");
    assert_eq!(error.code(), obstacle.code(), "{error}");
    let container = bed.inspect("web").await.unwrap();
    assert_eq!(container.status(), ContainerStatus::Created);
    assert_eq!((container.exit_code, container.endpoints), (exit_code, vec![]));
    assert!(container.error.contains(message), "{}", container.error);
    bed.assert_clean().await;

    bed.start("web").await.unwrap();
    let container = bed.inspect("web").await.unwrap();
    assert_eq!((container.status(), container.error), (ContainerStatus::Running, String::new()));
    bed.stop("web").await;
    bed.assert_clean().await;
}

/// Something that takes all steps.
fn config(bed: &Bed) -> ContainerConfig {
    let program = bed.path("layer/bin/program");
    fs::write(&program, "#!/bin/sh\nexec sleep 1000000\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(bed.path("volume")).unwrap();
    let runtime = bed.path("runtime");
    gantry_tests::runtime::write_script(&runtime, "#!/bin/sh\nexec runc \"$@\"\n");
    ContainerConfig {
        args: vec!["/bin/program".into()],
        networking: bridge(&[]),
        mounts: vec![proto::BindMount {
            source: bed.path("volume").to_str().unwrap().to_owned(),
            destination: "/mnt".into(),
            read_only: true,
        }],
        runtime: runtime.to_str().unwrap().to_owned(),
        runtime_args: Runc.arguments(&bed.path("runc")),
        ..bed.script("")
    }
}

#[tokio::test]
async fn malformed_configurations_are_refused() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let refused = async |change: &dyn Fn(&mut ContainerConfig)| {
        let mut config = bed.script("true");
        change(&mut config);
        let request = proto::CreateContainerRequest { name: "web".into(), config: Some(config) };
        bed.api().create_container(request).await.unwrap_err().message().to_owned()
    };
    assert!(refused(&|config| config.args.clear()).await.starts_with("args: "));
    assert!(refused(&|config| config.networking = bridge(&["nowhere"])).await.contains("nowhere"));
    let list = bed.api().list_containers(proto::ListContainersRequest {}).await.unwrap();
    assert_eq!(list.into_inner().containers, []);
}

#[tokio::test]
async fn a_container_whose_removal_failed_can_only_be_removed() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let id = bed.create("web", bed.script("true")).await;
    let obstacle = bed.path("lib/containers").join(format!("{id}.removed"));
    fs::create_dir_all(obstacle.join("in the way")).unwrap();
    bed.remove("web", false).await.unwrap_err();
    let container = bed.inspect("web").await.unwrap();
    assert_eq!(container.status(), ContainerStatus::Dead);
    assert!(container.error.contains("cannot remove"), "{}", container.error);
    let error = bed.start("web").await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::FailedPrecondition, "{error}");
    fs::remove_dir_all(&obstacle).unwrap();
    bed.remove("web", false).await.unwrap();
    bed.inspect("web").await.unwrap_err();
    assert!(!bed.directory(&id).exists());
}
