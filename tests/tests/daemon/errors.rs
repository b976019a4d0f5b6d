//! What the daemon answers when it cannot do as asked: codes, details, and how soon.

use std::time::{Duration, Instant};

use Runtime::Runc;
use gantry_api::types::{CreateContainerRequest, api_client::ApiClient};
use gantry_daemon::proto;
use gantry_tests::{Runtime, bundle, patiently, skip};
use rustix::process::Signal;
use tokio::process::Command;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{Bed, bed};

/// Far more than a call takes with gantryd away, and far less than a call may take that works.
const SECONDS: Duration = Duration::from_secs(30);

/// The fields that an error names.
fn fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().into_iter();
    details.flat_map(|details| details.field_violations).map(|violation| violation.field).collect()
}

#[tokio::test]
async fn have_a_code_and_name_the_field() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let refused = async |name: &str, config| {
        let request = proto::CreateContainerRequest { name: name.into(), config };
        bed.api().create_container(request).await.unwrap_err()
    };
    let unknown = bed.inspect("nobody").await.unwrap_err();
    assert_eq!((unknown.code(), fields(&unknown)), (Code::NotFound, vec![]), "{unknown}");
    let missing = refused("web", None).await;
    assert_eq!(missing.code(), Code::InvalidArgument, "{missing}");
    assert_eq!(fields(&missing), ["config"]);
    let config = proto::ContainerConfig { args: vec![], ..bed.script("") };
    assert_eq!(fields(&refused("web", Some(config)).await), ["args"]);
    let misnamed = refused("a b", Some(bed.script("true"))).await;
    assert_eq!(fields(&misnamed), ["name"]);
    let nameless = bed.inspect("").await.unwrap_err();
    assert_eq!(
        (nameless.code(), fields(&nameless)),
        (Code::InvalidArgument, vec!["reference".to_owned()])
    );

    bed.create("web", bed.script("true")).await;
    let taken = refused("web", Some(bed.script("true"))).await;
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
    let request = proto::KillContainerRequest { reference: "web".into(), signal: String::new() };
    let idle = bed.api().kill_container(request).await.unwrap_err();
    assert_eq!(idle.code(), Code::FailedPrecondition, "{idle}");
}

/// With the code and the details that gantryd gave them.
#[tokio::test]
async fn errors_of_gantryd_are_passed_on() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let config = proto::ContainerConfig { runtime: "./runc".into(), ..bed.script("true") };
    bed.create("relative", config).await;
    let relative = bed.start("relative").await.unwrap_err();
    assert_eq!(relative.code(), Code::InvalidArgument, "{relative}");
    assert_eq!(fields(&relative), ["runtime"]);

    bed.create("web", bed.script("true")).await;
    let request = proto::StartContainerRequest {
        reference: "web".into(),
        checkpoint: "none".into(),
        ..Default::default()
    };
    let unknown = bed.api().start_container(request).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");

    let id = bed.create("taken", bed.script("true")).await;
    occupy(&bed, &id).await;
    let taken = bed.start("taken").await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "{taken}");
}

/// Has gantryd run a container of this id that is not the daemon's.
async fn occupy(bed: &Bed, id: &str) {
    let dir = bed.path("other");
    bundle::make_rootfs(&dir.join("rootfs"));
    let spec = serde_json::json!({
        "ociVersion": "1.0.2",
        "process": { "args": ["sleep", "1000000"], "cwd": "/", "env": ["PATH=/bin"],
                     "user": { "uid": 0, "gid": 0 } },
        "root": { "path": "rootfs" },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": { "cgroupsPath": format!("{}/other", bed.cgroup()),
                   "namespaces": [{ "type": "pid" }, { "type": "mount" }] }
    });
    std::fs::write(dir.join("config.json"), spec.to_string()).unwrap();
    let bundle_path = dir.to_str().unwrap().to_owned();
    let request = CreateContainerRequest { id: id.to_owned(), bundle_path, ..Default::default() };
    let mut gantryd = ApiClient::new(bed::connect(&bed.path("g.sock")));
    gantryd.create_container(request).await.unwrap();
}

#[tokio::test]
async fn come_soon_when_gantryd_is_away() {
    let Some(mut bed) = Bed::make(Runc).await else { return };
    bed.run("runs", bed.script("sleep 1000000")).await;
    bed.create("idle", bed.script("sleep 1000000")).await;
    bed.end_server(Signal::KILL).await;

    let begin = Instant::now();
    let start = bed.start("idle").await.unwrap_err();
    let request = proto::KillContainerRequest { reference: "runs".into(), signal: String::new() };
    let kill = bed.api().kill_container(request).await.unwrap_err();
    let request =
        proto::StopContainerRequest { reference: "runs".into(), timeout_seconds: Some(0) };
    let stop = bed.api().stop_container(request).await.unwrap_err();
    assert!(begin.elapsed() < SECONDS, "{:?}", begin.elapsed());
    for error in [start, kill, stop] {
        assert_eq!(error.code(), Code::Unavailable, "{error}");
        assert!(error.message().starts_with("gantryd is not available: "), "{error}");
    }
    let idle = bed.inspect("idle").await.unwrap();
    assert_eq!(idle.status(), proto::ContainerStatus::Created);
    assert_eq!(idle.exit_code, 128, "{}", idle.error);

    bed.start_server().await;
    bed.start("idle").await.unwrap();
    for name in ["idle", "runs"] {
        bed.stop(name).await;
    }
    bed.assert_clean().await;
}

/// gRPC's C core calls the socket by another name than Go does.
#[tokio::test]
async fn python_needs_no_authority() {
    let script = "import grpc, sys
call = grpc.insecure_channel('unix:' + sys.argv[1]).unary_unary
service = '/gantry.daemon.v1.DaemonService/'
print('networks', call(service + 'ListNetworks')(b'', timeout=60))
try: call(service + 'CreateContainer')(b'', timeout=60)
except grpc.RpcError as error: print(error.code(), error.details())";
    let python = |arguments: &[&str]| {
        let mut command = Command::new("python3");
        command.kill_on_drop(true).args(arguments);
        command
    };
    if !python(&["-c", "import grpc"]).output().await.is_ok_and(|o| o.status.success()) {
        return skip("python3 has no grpcio");
    }
    let Some(bed) = Bed::make(Runc).await else { return };
    let socket = bed.path("d.sock");
    let mut client = python(&["-c", script, socket.to_str().unwrap()]);
    let output = patiently("python", client.output()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("10.90."), "{output:?}");
    assert!(text.contains("StatusCode.INVALID_ARGUMENT config: is missing"), "{output:?}");
}

/// It names the socket's path as the authority.
#[tokio::test]
async fn errors_are_shown_by_a_foreign_client() {
    if !Command::new("grpcurl").arg("-version").output().await.is_ok_and(|o| o.status.success()) {
        return skip("grpcurl is not installed");
    }
    let Some(bed) = Bed::make(Runc).await else { return };
    let grpcurl = async |method: &str, data: &str| {
        let mut command = Command::new("grpcurl");
        command.kill_on_drop(true).args(["-plaintext", "-unix", "-d", data]);
        command.arg(bed.path("d.sock")).arg(format!("gantry.daemon.v1.DaemonService/{method}"));
        let output = patiently("grpcurl", command.output()).await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (ok, networks) = grpcurl("ListNetworks", "{}").await;
    assert!(ok && networks.contains("10.90."), "{networks}");
    let (ok, error) = grpcurl("CreateContainer", r#"{"name": "web"}"#).await;
    assert!(!ok && error.contains("Code: InvalidArgument"), "{error}");
    assert!(error.contains("google.rpc.BadRequest"), "{error}");
    assert!(error.contains(r#""field":"config""#), "{error}");
}
