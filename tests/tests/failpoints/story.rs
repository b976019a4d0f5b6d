//! One container's life, run to its end however often the server dies on the way.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use gantry_api::{
    INIT,
    types::{self, AddProcessRequest, CreateContainerRequest, SignalRequest, User},
};
use gantry_failpoints::{DIRECTORY, Point};
use gantry_tests::{
    PATIENCE, Runtime, Server, Variant, bundle::Bundle, eventually, processes,
    runtime::write_script,
};
use serde_json::json;
use tonic::{Code, Status};

use crate::{
    cases::{Case, When},
    journal,
};

pub(crate) const EXEC: &str = "e";

const LOOK_AGAIN: Duration = Duration::from_millis(10);

pub(crate) struct Story {
    pub(crate) server: Server,
    pub(crate) case: Case,
    pub(crate) armed: PathBuf,
    pub(crate) id: String,
    bundle: Bundle,
    /// Calls that failed although the server lives: those of a shim that died.
    failures: usize,
    was_armed: bool,
    /// Of the server.
    deaths: usize,
}

impl Story {
    /// From the beginning to the end.
    pub(crate) async fn run(variant: Variant, case: Case) {
        let mut story = Self::begin(variant, case).await;
        story.create().await;
        story.exec().await;
        story.pause().await;
        story.run_out_of_memory().await;
        story.restart().await;
        story.end_exec().await;
        story.end().await;
        story.conclude().await;
    }

    async fn begin(variant: Variant, case: Case) -> Self {
        let directory = tempfile::Builder::new().prefix("gantry-armed-").tempdir();
        let armed = directory.expect("a directory for armed points").keep();
        let script = armed.join("gantryd.sh");
        write_script(&script, &start_up(&variant, &armed));
        let shim = variant.shim.to_str().expect("UTF-8");
        let setup =
            Server::setup(Runtime::Runc).binary(&script).arguments(&["--shim-binary", shim]);
        let server = setup.start().await.expect("was seen to be possible");
        let service = &server.service;
        let mut id = "c".to_owned();
        if case.when == When::CreateWithoutCgroup {
            // The runtime names the cgroup after it then.
            id = service.cgroup.trim_start_matches('/').to_owned();
        }
        let cgroup = format!("{}/{id}", service.cgroup);
        let directory = service.work.join("bundles").join(&id);
        let mut bundle = Bundle::new(directory, &service.work.join("rootfs"), &cgroup);
        bundle.config["process"]["args"] =
            json!(["sh", "-c", "trap 'exit 3' TERM; sleep 1000000 & wait"]);
        if case.when == When::CreateWithoutCgroup {
            bundle.config["linux"]["cgroupsPath"] = json!(null);
        }
        if case.when == When::Oom {
            // More than runc itself takes in the container's cgroup, on a busy machine too.
            bundle.config["linux"]["resources"]["memory"] = json!({ "limit": 32 << 20 });
        }
        Self { server, case, armed, id, bundle, failures: 0, was_armed: false, deaths: 0 }
    }

    /// Arms the point if its time has come.
    fn arm(&mut self, now: &[When]) {
        if now.contains(&self.case.when) {
            self.arm_point(self.case.point);
        }
    }

    fn arm_point(&mut self, point: Point) {
        self.was_armed = true;
        fs::write(self.armed.join(point.name()), "").expect("arm a point");
    }

    async fn create(&mut self) {
        self.fail_to_create().await;
        self.arm(&[When::Create, When::CreateWithoutCgroup]);
        self.bundle.write();
        let half_made = match self.case.when {
            When::RestartAfterHalfMade => Some(Point::ServerLaunchedReceived),
            _ => None,
        };
        if let Some(point) = half_made {
            self.arm_point(point);
        }
        while self.state().await.is_none() {
            let request = self.create_request();
            let result = self.server.service.api().create_container(request).await;
            self.survive(result).await;
        }
    }

    fn create_request(&self) -> CreateContainerRequest {
        CreateContainerRequest {
            id: self.id.clone(),
            bundle_path: self.bundle.directory.to_str().expect("UTF-8").to_owned(),
            ..CreateContainerRequest::default()
        }
    }

    /// A container whose program does not exist.
    async fn fail_to_create(&mut self) {
        if self.case.when != When::FailedCreate {
            return;
        }
        self.arm(&[When::FailedCreate]);
        let mut bundle = self.bundle.clone();
        bundle.config["process"]["args"] = json!(["/no/such/program"]);
        bundle.write();
        let request = self.create_request();
        let result = self.server.service.api().create_container(request).await;
        assert!(result.is_err(), "there is no such program");
        self.survive(result).await;
        self.failures = 0;
        assert!(self.state().await.is_none(), "a container that failed");
    }

    async fn exec(&mut self) {
        if self.case.when == When::FailedExec {
            self.arm(&[When::FailedExec]);
            let result = self.add_process(&["/no/such/program"]).await;
            assert!(result.is_err(), "there is no such program");
            self.survive(result).await;
            self.failures = 0;
        }
        self.arm(&[When::Exec]);
        if self.case.when == When::RestartAfterHalfMadeExec {
            self.arm_point(Point::ServerLaunchedReceived);
        }
        while !self.has(EXEC).await {
            let result = self.add_process(&["sleep", "1000000"]).await;
            self.survive(result).await;
        }
    }

    async fn add_process(&self, args: &[&str]) -> Result<(), Status> {
        let request = AddProcessRequest {
            id: self.id.clone(),
            pid: EXEC.to_owned(),
            user: Some(User::default()),
            args: args.iter().map(ToString::to_string).collect(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            ..AddProcessRequest::default()
        };
        self.server.service.api().add_process(request).await.map(drop)
    }

    async fn pause(&mut self) {
        if self.case.when == When::PauseWithLongJournal {
            self.server.kill().await;
            journal::prolong(&self.server.state_dir());
            self.server.start_again().await;
        }
        self.arm(&[When::Pause, When::PauseWithLongJournal]);
        self.set_status("paused").await;
        self.arm(&[When::Resume]);
        self.set_status("running").await;
    }

    async fn set_status(&mut self, status: &str) {
        while self.known_state().await.status != status {
            let request = types::UpdateContainerRequest {
                id: self.id.clone(),
                status: status.to_owned(),
                ..types::UpdateContainerRequest::default()
            };
            let result = self.server.service.api().update_container(request).await;
            self.survive(result).await;
        }
    }

    async fn run_out_of_memory(&mut self) {
        if self.case.when != When::Oom {
            return;
        }
        self.arm(&[When::Oom]);
        let request = AddProcessRequest {
            id: self.id.clone(),
            pid: "oom".to_owned(),
            user: Some(User::default()),
            args: ["sh", "-c", "exec tail /dev/zero"].map(str::to_owned).into(),
            env: vec!["PATH=/bin".to_owned()],
            cwd: "/".to_owned(),
            ..AddProcessRequest::default()
        };
        let result = self.server.service.api().add_process(request).await;
        self.survive(result).await;
        self.reached().await;
        self.until_gone("oom").await;
    }

    /// Restarts the server, which dies at the point while it starts. What is killed before gives
    /// it something to do.
    async fn restart(&mut self) {
        match self.case.when {
            When::Restart => self.server.kill().await,
            When::RestartAfterDamage => {
                self.server.kill().await;
                let directory = self.server.state_dir().join("containers/types").join(&self.id);
                let path = directory.join("container.json");
                fs::write(path, "").expect("empty container.json");
            }
            _ => return,
        }
        self.die_while_starting().await;
    }

    async fn die_while_starting(&mut self) {
        self.arm_point(self.case.point);
        fs::write(self.armed.join("start-up"), "").expect("signal the script");
        self.server.start_again().await;
        self.reached().await;
    }

    async fn end_exec(&mut self) {
        self.arm(&[When::ExecEnd]);
        while self.has(EXEC).await {
            self.signal(EXEC, 9).await;
        }
    }

    async fn end(&mut self) {
        self.arm(&[When::End]);
        if self.case.when == When::EndWithoutServer {
            let init = self.known_state().await.processes[0].system_pid;
            self.server.kill().await;
            self.spare_shim_gone().await;
            self.arm_point(self.case.point);
            processes::signal(init, rustix::process::Signal::TERM);
            self.reached().await;
            self.server.start_again().await;
        }
        if self.case.when == When::RestartAfterSetAside {
            self.arm_point(Point::ServerSetAside);
        }
        while self.has(INIT).await {
            self.signal(INIT, 15).await;
        }
    }

    async fn signal(&mut self, process: &str, signal: u32) {
        let (id, pid) = (self.id.clone(), process.to_owned());
        let request = SignalRequest { id, pid, signal };
        // It may have ended meanwhile.
        let _ = self.server.service.api().signal(request).await;
        tokio::time::sleep(LOOK_AGAIN).await;
        self.revive().await;
    }

    /// It leaves with the server, by way of the same points as one that has had a process.
    async fn spare_shim_gone(&self) {
        let service = &self.server.service;
        let gone = || processes::spare_shim(&service.work, &service.cgroup).is_none();
        eventually("the spare shim is gone", gone).await;
    }

    async fn until_gone(&mut self, process: &str) {
        while self.has(process).await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// After a call: starts the server again if it has died; a shim may die once.
    async fn survive<T>(&mut self, result: Result<T, Status>) {
        let Err(error) = result else { return };
        if !self.revive().await {
            self.failures += 1;
            let shims = self.case.point.name().starts_with("Shim");
            assert!(shims && self.failures == 1, "a call failed: {error:?}");
        }
    }

    /// Starts the server again if it has died, or is about to; whether it had.
    pub(crate) async fn revive(&mut self) -> bool {
        let patience = if self.is_dying() { PATIENCE } else { Duration::ZERO };
        let dead = processes::ends_within(self.server.pid(), patience).await;
        if dead {
            self.deaths += 1;
            self.server.kill().await;
            let half_made = [When::RestartAfterHalfMade, When::RestartAfterHalfMadeExec];
            let again =
                half_made.contains(&self.case.when) || self.case.when == When::RestartAfterSetAside;
            if again && !self.armed.join("done").exists() {
                fs::write(self.armed.join("done"), "").expect("note it");
                self.die_while_starting().await;
            } else {
                self.server.start_again().await;
            }
        }
        dead
    }

    /// Whether the server has met its point and nobody has taken notice yet.
    fn is_dying(&self) -> bool {
        let met = |point: Point| !self.armed.join(point.name()).exists();
        match self.case.when {
            // Its first death is that of another point, and the script sees to the second.
            When::RestartAfterHalfMade | When::RestartAfterHalfMadeExec => {
                self.deaths == 0 && self.was_armed && met(Point::ServerLaunchedReceived)
            }
            When::RestartAfterSetAside => {
                self.deaths == 0 && self.was_armed && met(Point::ServerSetAside)
            }
            When::Restart | When::RestartAfterDamage => false,
            _ => {
                let server = self.case.point.name().starts_with("Server");
                server && self.deaths == 0 && self.was_armed && met(self.case.point)
            }
        }
    }

    /// Waits for the process at the point to have died.
    pub(crate) async fn reached(&self) {
        let path = self.armed.join(self.case.point.name());
        eventually("the point is reached", || !path.exists()).await;
    }

    async fn has(&mut self, process: &str) -> bool {
        let state = self.state().await;
        state.is_some_and(|state| state.processes.iter().any(|found| found.pid == process))
    }

    async fn known_state(&mut self) -> types::Container {
        self.state().await.expect("the container lives")
    }

    async fn state(&mut self) -> Option<types::Container> {
        let begin = std::time::Instant::now();
        loop {
            match self.server.service.state(&self.id).await {
                Ok(state) => return Some(state),
                Err(error) if error.code() == Code::NotFound => return None,
                Err(error) => assert!(begin.elapsed() < PATIENCE, "State: {error:?}"),
            }
            self.revive().await;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A script that becomes the server; it starts it once more than asked for, to die at the point
/// that is armed, if the test wants that.
fn start_up(variant: &Variant, armed: &Path) -> String {
    let (server, armed) = (variant.server.display(), armed.display());
    format!(
        "#!/bin/sh\n\
         export {DIRECTORY}={armed}\n\
         if rm {armed}/start-up 2>/dev/null; then {server} \"$@\"; fi\n\
         exec {server} \"$@\"\n"
    )
}
