//! Who may do what: real users, by the sockets that they can open and the roles that they have.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use Runtime::Runc;
use gantry_api::types::{CreateContainerRequest, SignalRequest, UpdateContainerRequest};
use gantry_tests::{
    Runtime, Server, eventually, improves, patiently, processes, programs, server::Setup, service,
    skip,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use tonic::Code;

/// Users and groups that no machine has.
const OBSERVER: u32 = 71_001;
const OTHER: u32 = 71_002;
const STAFF: u32 = 71_003;

/// What users other than root can reach: a client, the contract, and sockets.
struct Place(tempfile::TempDir);

impl Place {
    /// `None`, after saying so, without a client that such users can run.
    fn new() -> Option<Self> {
        if improves("whoever opens its socket is root") {
            return None;
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).map(|place| place.join("grpcurl"));
        let Some(grpcurl) = found.into_iter().find(|path| path.exists()) else {
            skip("grpcurl is not installed");
            return None;
        };
        let place = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(place.0.path(), Permissions::from_mode(0o711)).unwrap();
        fs::copy(grpcurl, place.path("grpcurl")).unwrap();
        fs::copy(programs::cli(), place.path("gantry")).unwrap();
        let contract =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/proto/types/api.proto");
        fs::copy(contract, place.path("api.proto")).unwrap();
        fs::set_permissions(place.path("api.proto"), Permissions::from_mode(0o644)).unwrap();
        Some(place)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A server with this configuration, in which `{here}` is this place.
    fn server(&self, config: &str) -> Setup {
        self.configure(config);
        let file = self.path("gantryd.toml");
        Server::setup(Runc).arguments(&["--config", file.to_str().unwrap()])
    }

    fn configure(&self, config: &str) {
        let here = self.0.path().to_str().unwrap();
        fs::write(self.path("gantryd.toml"), config.replace("{here}", here)).unwrap();
    }

    /// A program here, as a user who is in the group of the same number and in these.
    fn run(&self, user: u32, groups: &[u32], program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={user}")).arg(format!("--regid={user}"));
        match groups {
            [] => command.arg("--clear-groups"),
            _ => command.arg(format!(
                "--groups={}",
                groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
            )),
        };
        command.arg(self.path(program)).current_dir("/").kill_on_drop(true).stdin(Stdio::null());
        command
    }

    /// A call of `types.API`, by grpcurl.
    fn call(
        &self,
        (user, groups): (u32, &[u32]),
        socket: &str,
        call: &str,
        data: &Value,
    ) -> Command {
        let mut command = self.run(user, groups, "grpcurl");
        command
            .args(["-plaintext", "-unix", "-proto", "api.proto", "-import-path"])
            .arg(self.0.path());
        command
            .args(["-d", &data.to_string()])
            .arg(self.path(socket))
            .arg(format!("types.API/{call}"));
        command
    }

    async fn allows(&self, who: (u32, &[u32]), socket: &str, call: &str, data: &Value) {
        let output = output(self.call(who, socket, call, data)).await;
        assert!(output.status.success(), "{who:?} {call}: {}", stderr(&output));
    }

    async fn refuses(&self, who: (u32, &[u32]), socket: &str, call: &str, data: &Value) -> String {
        let output = output(self.call(who, socket, call, data)).await;
        let words = stderr(&output);
        assert!(words.contains("Code: PermissionDenied"), "{who:?} {call}: {words}");
        words
    }
}

async fn output(mut command: Command) -> Output {
    patiently("a client", command.output()).await.unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A line about a call, without its time and the pid of the client.
fn audited(server: &Server, call: &str, user: u32) -> Vec<String> {
    let of = format!("audit: call=\"/{call}\" uid={user} pid=");
    let log = server.log();
    let ends = log.lines().filter_map(|line| line.split_once(&of));
    ends.map(|(_, end)| end.split_once(' ').unwrap().1.to_owned()).collect()
}

const RULES: &str = "
[[listener]]
path = \"{here}/sock\"
mode = \"0666\"
[[access]]
user = \"root\"
role = \"admin\"
[[access]]
user = 71001
role = \"observer\"
[[access]]
group = 71003
role = \"operator\"
";

#[tokio::test]
async fn users_do_what_their_roles_allow() {
    let Some(place) = Place::new() else { return };
    let Some(server) = place.server(RULES).start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let c = json!({ "id": "c" });
    let kill = json!({ "id": "c", "pid": "init", "signal": 9 });
    let create = json!({ "id": "other", "bundlePath": container.bundle });
    let exec = json!({ "id": "c", "pid": "e", "args": ["/bin/true"], "cwd": "/" });

    let observer = (OBSERVER, &[][..]);
    place.allows(observer, "sock", "State", &c).await;
    place.allows(observer, "sock", "Stats", &c).await;
    let refused = place.refuses(observer, "sock", "Signal", &kill).await;
    let words = format!(
        "/types.API/Signal needs the role operator, and user {OBSERVER} has the role observer here"
    );
    assert!(refused.contains(&words), "{refused}");
    place
        .refuses(observer, "sock", "UpdateContainer", &json!({ "id": "c", "status": "paused" }))
        .await;
    place.refuses(observer, "sock", "CreateContainer", &create).await;
    place.refuses(observer, "sock", "ListCheckpoint", &c).await;

    for nobody in [(OTHER, &[][..]), (OTHER, &[OBSERVER][..])] {
        let refused = place.refuses(nobody, "sock", "State", &c).await;
        assert!(refused.contains(&format!("user {OTHER} has no role here")), "{refused}");
        place.refuses(nobody, "sock", "Signal", &kill).await;
    }

    // By its own group, and by a further one.
    for operator in [(STAFF, &[][..]), (OTHER, &[7, STAFF][..])] {
        place.allows(operator, "sock", "State", &c).await;
        for status in ["paused", "running"] {
            let update = json!({ "id": "c", "status": status });
            place.allows(operator, "sock", "UpdateContainer", &update).await;
        }
        place.refuses(operator, "sock", "CreateContainer", &create).await;
        place.refuses(operator, "sock", "AddProcess", &exec).await;
    }

    // What happens is watched by one and done by another.
    let events = json!({ "timestamp": "1970-01-01T00:00:01Z" });
    let mut watching = place.call(observer, "sock", "Events", &events);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut seen = BufReader::new(watching.stdout.take().unwrap()).lines();
    place.allows((OTHER, &[STAFF]), "sock", "Signal", &kill).await;
    let exit = async {
        while let Some(line) = seen.next_line().await.unwrap() {
            if line.contains("\"exit\"") {
                return;
            }
        }
        panic!("the stream has ended");
    };
    patiently("the exit is seen", exit).await;
    assert_eq!(server.service.events.wait_exit(0, "c", "init").await, 137);
    patiently("the client ends", watching.kill()).await.unwrap();

    server.logs(&format!("call=\"/types.API/Signal\" uid={OTHER}")).await;
    let line = |role: &str, code: &str| format!("role=\"{role}\"{code}");
    let subject = " subject=\"c\" code=Ok";
    eventually("all is noted", || audited(&server, "types.API/Signal", OTHER).len() == 3).await;
    let denied = line("none", " code=PermissionDenied");
    assert_eq!(
        audited(&server, "types.API/Signal", OTHER),
        [denied.clone(), denied, line("operator", subject)]
    );
    assert_eq!(
        audited(&server, "types.API/UpdateContainer", STAFF),
        [line("operator", subject), line("operator", subject)]
    );
    assert_eq!(audited(&server, "types.API/CreateContainer", 0), [line("admin", subject)]);
    assert_eq!(
        audited(&server, "types.API/CreateContainer", OBSERVER),
        [line("observer", " code=PermissionDenied")]
    );
    let log = server.log();
    for call in ["State", "Stats", "Events", "GetServerVersion"] {
        assert!(!log.contains(&format!("call=\"/types.API/{call}\"")), "{call} changes nothing");
    }
    server.finish().await;
}

/// The socket says who can connect, and what as, whoever that is.
#[tokio::test]
async fn sockets_have_modes_and_roles() {
    let Some(place) = Place::new() else { return };
    let config = "
        [[listener]]
        path = \"{here}/observe\"
        mode = \"0666\"
        role = \"observer\"
        [[listener]]
        path = \"{here}/operate\"
        group = 71003
        role = \"operator\"
    ";
    let Some(mut server) = place.server(config).start().await else { return };
    let of = |name: &str| {
        let file = fs::metadata(place.path(name)).unwrap();
        (file.mode() & 0o7777, file.uid(), file.gid())
    };
    assert_eq!((of("observe"), of("operate")), ((0o666, 0, 0), (0o660, 0, STAFF)));

    // On a socket without a role everything is as without a configuration.
    let container = server.container("c").create().await.unwrap();
    let c = json!({ "id": "c" });
    let kill = json!({ "id": "c", "pid": "init", "signal": 9 });
    let mut root = service::connect(&place.path("observe"));
    let signal = SignalRequest { id: "c".to_owned(), pid: "init".to_owned(), signal: 9 };
    let refused = root.signal(signal).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    assert!(refused.message().contains("user 0 has the role observer here"), "{refused:?}");
    drop(root);
    place.allows((OTHER, &[]), "observe", "State", &c).await;
    place.refuses((OTHER, &[STAFF]), "observe", "Signal", &kill).await;

    // It is open until the server ends, and does not become everybody's.
    place.configure("");
    processes::signal(server.pid(), Signal::HUP);
    server.logs("needs_restart=[\"listener\"]").await;
    place.allows((OTHER, &[]), "observe", "State", &c).await;
    place.refuses((OTHER, &[]), "observe", "Signal", &kill).await;
    place.configure(config);

    let stranger = output(place.call((OTHER, &[]), "operate", "State", &c)).await;
    assert!(stderr(&stranger).contains("permission denied"), "{}", stderr(&stranger));
    place.allows((OTHER, &[STAFF]), "operate", "Signal", &kill).await;
    assert_eq!(server.service.events.wait_exit(0, "c", "init").await, 137);
    drop(container);

    server.end(Signal::TERM).await;
    assert!(!place.path("observe").exists() && !place.path("operate").exists());
    server.start_again().await;
    server.finish().await;
}

/// A service manager's socket has the role that the configuration gives to its path.
#[tokio::test]
async fn a_socket_that_is_passed_has_its_role() {
    let Some(place) = Place::new() else { return };
    let config = "[[listener]]\npath = \"{here}/passed\"\nmode = \"0600\"\nrole = \"operator\"\n\
                  [[listener]]\npath = \"{here}/further\"\n";
    let passed = place.path("passed");
    let script =
        format!("exec systemd-socket-activate -l '{}' \"$gantryd\" \"$@\"", passed.display());
    let script = programs::wrapped_server(place.0.path(), &script);
    let setup = place.server(config).binary(&script).socket(&passed);
    let Some(server) = setup.start().await else { return };
    let request =
        CreateContainerRequest { id: "c".to_owned(), ..CreateContainerRequest::default() };
    let refused = server.service.api().create_container(request.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    let mut further = service::connect(&place.path("further"));
    // It has no bundle.
    let refused = further.create_container(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    drop(further);

    // Its mode is the service manager's, and what that means may change with the rules.
    let open = "every user can open this socket, which has no role, and become root";
    assert!(!server.log().contains(open), "{}", server.log());
    fs::set_permissions(&passed, Permissions::from_mode(0o666)).unwrap();
    place.configure(&config.replace("role = \"operator\"\n", ""));
    processes::signal(server.pid(), Signal::HUP);
    server.logs(open).await;
    server.finish().await;
}

/// For calls from then on, also those of connections that are open.
#[tokio::test]
async fn a_new_policy_is_for_new_calls() {
    let Some(place) = Place::new() else { return };
    let open = "[[listener]]\npath = \"{here}/open\"\nmode = \"0606\"\n";
    let Some(server) = place.server(open).start().await else { return };
    server.logs("every user can open this socket, which has no role, and become root").await;
    let container = server.container("c").create().await.unwrap();
    let alive = json!({ "id": "c", "pid": "init" });
    place.allows((OTHER, &[]), "open", "Signal", &alive).await;
    let reload = async |config: &str, outcome: &str| {
        place.configure(config);
        let count = || server.log().matches(outcome).count();
        let before = count();
        processes::signal(server.pid(), Signal::HUP);
        eventually(outcome, || count() > before).await;
    };
    let pause = |status: &str| UpdateContainerRequest {
        status: status.to_owned(),
        ..UpdateContainerRequest::default()
    };
    container.update(pause("paused")).await.unwrap();

    reload(&format!("{open}[[access]]\nuser = 0\nrole = \"observer\"\n"), "reloaded=[\"access\"]")
        .await;
    let refused = container.update(pause("running")).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused:?}");
    container.state().await.unwrap();
    place.refuses((OTHER, &[]), "open", "Signal", &alive).await;

    // A mistake opens nothing and closes nothing.
    let mistake = "[[access]]\nuser = \"no-such-user\"\nrole = \"admin\"\n";
    reload(mistake, "access.user: there is no user").await;
    assert_eq!(
        container.update(pause("running")).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    reload(
        &format!("{open}[[access]]\ngroup = \"root\"\nrole = \"admin\"\n"),
        "reloaded=[\"access\"]",
    )
    .await;
    container.update(pause("running")).await.unwrap();
    reload("[[listener]]\npath = \"{here}/sock\"\n", "needs_restart=[\"listener\"]").await;
    assert!(!place.path("sock").exists());
    container.init.kill().await;
    server.finish().await;
}

/// What a person sees who may not do something.
#[tokio::test]
async fn the_command_says_which_role_it_needs() {
    let Some(place) = Place::new() else { return };
    let Some(server) = place.server(RULES).start().await else { return };
    let container = server.container("c").create().await.unwrap();
    let gantry = |user: u32, arguments: &[&str]| {
        let mut command = place.run(user, &[], "gantry");
        command.arg("--address").arg(place.path("sock")).args(arguments);
        output(command)
    };
    let listed = gantry(OBSERVER, &["ps"]).await;
    assert!(listed.status.success(), "{}", stderr(&listed));
    assert!(String::from_utf8_lossy(&listed.stdout).contains('c'));
    // What the server has counted, and what containers use.
    let top = gantry(OBSERVER, &["top", "--once", "--json", "--interval", "200ms"]).await;
    assert!(top.status.success(), "{}", stderr(&top));
    let report: Value = serde_json::from_slice(&top.stdout).unwrap();
    assert_eq!(report["busiest"][0]["id"], "c", "{report}");
    assert!(report["process"]["memory"].as_u64().unwrap() > 1 << 20, "{report}");
    let refused = gantry(OTHER, &["top", "--once"]).await;
    assert!(stderr(&refused).contains("has no role here"), "{}", stderr(&refused));
    let refused = gantry(OBSERVER, &["kill", "c"]).await;
    assert!(!refused.status.success());
    assert!(stderr(&refused).contains("needs the role operator"), "{}", stderr(&refused));
    container.init.kill().await;
    server.finish().await;
}
