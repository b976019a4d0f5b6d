//! Clients that share no code with Gantry: grpcurl, by reflection and by the `.proto`, and Python's
//! grpcio with stubs generated on the spot.

use std::path::{Path, PathBuf};

use Runtime::{Crun, Runc};
use gantry_api::event_type;
use gantry_tests::{Runtime, Server, improves, patiently, pipes::PipePaths, programs, skip};
use rstest::rstest;
use serde_json::{Value, json};
use tokio::process::Command;

#[rstest]
#[tokio::test]
async fn a_whole_life_from_python(#[values(Runc, Crun)] runtime: Runtime) {
    if improves("its codes are all UNKNOWN") {
        return;
    }
    if !is_there("python3", &["-c", "import grpc, grpc_tools"]).await {
        return skip("python3 has no grpcio-tools");
    }
    let Some(server) = Server::own(runtime).await else { return };
    let bundle = server.container("py").sh("cat; exit 7").bundle();
    let pipes = server.work().join("pipes/py");
    std::fs::create_dir_all(&pipes).unwrap();
    let mut client = Command::new("python3");
    client.arg(repository().join("tests/foreign/client.py"));
    client.arg("--proto").arg(repository().join("proto")).arg("--socket");
    client.arg(&server.service.socket).arg("--bundle").arg(bundle).args(["--id", "py"]);
    client.arg("--dir").arg(pipes);
    let output = run(client).await;
    assert!(output.contains("whole life: ok"), "{output}");
    server.finish().await;
}

#[rstest]
#[tokio::test]
async fn a_whole_life_from_grpcurl(
    #[values(Runc, Crun)] runtime: Runtime,
    #[values(true, false)] by_reflection: bool,
) {
    if by_reflection && improves("it has no reflection") || programs::is_incumbent() {
        return;
    }
    if !is_there("grpcurl", &["-version"]).await {
        return skip("grpcurl is not installed");
    }
    let Some(server) = Server::own(runtime).await else { return };
    let grpcurl = Grpcurl { server: &server, by_reflection };
    let bundle = server.container("c").sh("cat; exit 7").bundle();
    let paths = PipePaths::make(&server.work().join("pipes/c"), "init");
    let mut pipes = paths.clone().open();
    let request = json!({
        "id": "c", "bundlePath": bundle, "labels": ["a=b"],
        "stdin": paths.stdin, "stdout": paths.stdout, "stderr": paths.stderr
    });
    let created = grpcurl.call("CreateContainer", &request).await;
    assert_eq!(created["container"]["processes"][0]["pid"], "init");
    let request = json!({ "id": "c", "pid": "e", "args": ["/bin/false"], "cwd": "/" });
    assert!(grpcurl.call("AddProcess", &request).await["systemPid"].is_u64());
    server.service.events.wait_exit(0, "c", "e").await;
    let state = grpcurl.call("State", &json!({ "id": "c" })).await;
    assert_eq!(state["containers"][0]["labels"], json!(["a=b"]));
    let stats = grpcurl.call("Stats", &json!({ "id": "c" })).await;
    assert!(stats["cgroupStats"]["pidsStats"]["current"].is_string(), "{stats}");
    for status in ["paused", "running"] {
        grpcurl.call("UpdateContainer", &json!({ "id": "c", "status": status })).await;
    }
    pipes.write(b"copied\n").await;
    grpcurl.call("UpdateProcess", &json!({ "id": "c", "pid": "init", "closeStdin": true })).await;
    assert_eq!(pipes.stdout_text().await, "copied\n");
    assert_eq!(server.service.events.wait_exit(0, "c", "init").await, 7);

    let request = json!({ "timestamp": "1970-01-01T00:00:01Z", "storedOnly": true });
    let events = grpcurl.stream("Events", &request).await;
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    use event_type::{EXIT, PAUSE, RESUME, START_CONTAINER, START_PROCESS};
    assert_eq!(types, [START_CONTAINER, START_PROCESS, EXIT, PAUSE, RESUME, EXIT]);
    server.finish().await;
}

#[tokio::test]
async fn reflection_describes_the_contract() {
    if improves("it has no reflection") {
        return;
    }
    if !is_there("grpcurl", &["-version"]).await {
        return skip("grpcurl is not installed");
    }
    let Some(server) = Server::own(Runc).await else { return };
    let grpcurl = Grpcurl { server: &server, by_reflection: true };
    let services = run(grpcurl.command(&["list"])).await;
    for service in ["types.API", "grpc.health.v1.Health"] {
        assert!(services.lines().any(|line| line == service), "{services}");
    }
    let methods = run(grpcurl.command(&["list", "types.API"])).await;
    assert_eq!(methods.lines().count(), 12, "{methods}");
    // A field in whose name the wire has odd capitals.
    let message = run(grpcurl.command(&["describe", "types.NetworkStats"])).await;
    assert!(message.contains("uint64 rx_Packets = 3;"), "{message}");
    let health = run(grpcurl.command(&["grpc.health.v1.Health/Check"])).await;
    assert!(health.contains("SERVING"), "{health}");
    server.finish().await;
}

#[tokio::test]
async fn an_error_names_the_field() {
    if improves("it has no details") {
        return;
    }
    if !is_there("grpcurl", &["-version"]).await {
        return skip("grpcurl is not installed");
    }
    let Some(server) = Server::own(Runc).await else { return };
    let grpcurl = Grpcurl { server: &server, by_reflection: true };
    let mut command = grpcurl.command(&["types.API/CreateContainer"]);
    let output = patiently("grpcurl", command.output()).await.unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("InvalidArgument") && message.contains("id: "), "{message}");
    // The details are shown as they are: their type is known by reflection.
    assert!(message.contains("google.rpc.BadRequest"), "{message}");
    assert!(message.contains(r#""field":"id""#), "{message}");
    let types = run(grpcurl.command(&["describe", "google.rpc.BadRequest"])).await;
    assert!(types.contains("field_violations"), "{types}");
    let services = run(grpcurl.command(&["list"])).await;
    assert!(!services.contains("google."), "{services}");
    server.finish().await;
}

/// Calls of grpcurl, which reads the contract from the server or from its file.
struct Grpcurl<'a> {
    server: &'a Server,
    by_reflection: bool,
}

impl Grpcurl<'_> {
    /// What is asked of the server.
    fn command(&self, arguments: &[&str]) -> Command {
        self.command_with(&[], arguments)
    }

    /// With options in front.
    fn command_with(&self, options: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new("grpcurl");
        command.kill_on_drop(true).args(["-plaintext", "-unix"]);
        if !self.by_reflection {
            command.arg("-import-path").arg(repository().join("proto"));
            command.args(["-proto", "types/api.proto"]);
        }
        command.args(options).arg(&self.server.service.socket).args(arguments);
        command
    }

    /// The one answer of a method.
    async fn call(&self, method: &str, request: &Value) -> Value {
        let mut answers = self.stream(method, request).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    async fn stream(&self, method: &str, request: &Value) -> Vec<Value> {
        let data = request.to_string();
        let command = self.command_with(&["-d", &data], &[&format!("types.API/{method}")]);
        let output = run(command).await;
        let answers = serde_json::Deserializer::from_str(&output).into_iter();
        answers.map(Result::unwrap).collect()
    }
}

/// Runs a program that is to succeed, and returns what it says.
async fn run(mut command: Command) -> String {
    let output = patiently("a foreign client", command.output()).await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

async fn is_there(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output().await;
    output.is_ok_and(|output| output.status.success())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
