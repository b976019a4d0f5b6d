//! Debian's dockerd on a server of containerd's services, called as its client calls it.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::bed::Bed;

/// The image that each has.
const IMAGE: &str = "bench";

/// Longer than any start takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running dockerd. Dropping it ends it; its containers go with the bed.
pub(crate) struct Docker {
    child: Child,
    socket: PathBuf,
}

impl Docker {
    /// `None` where it is not installed. Containers are made by `runtime`.
    pub(crate) fn start(
        bed: &Bed,
        name: &str,
        server: &Path,
        runtime: &str,
    ) -> Result<Option<Self>> {
        if Command::new("dockerd").arg("--version").output().is_err() {
            return Ok(None);
        }
        let work = bed.work().join(format!("docker-{name}-{runtime}"));
        fs::create_dir_all(&work).context("make dockerd's directory")?;
        let key = serde_json::json!({ "deprecated-key-path": work.join("key.json") });
        fs::write(work.join("daemon.json"), key.to_string()).context("write dockerd's config")?;
        let log = fs::File::create(work.join("log")).context("open dockerd's log")?;
        let socket = work.join("sock");
        let mut command = Command::new("dockerd");
        for (flag, name) in [
            ("--config-file", "daemon.json"),
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
        ] {
            command.arg(flag).arg(work.join(name));
        }
        command.arg("--host").arg(format!("unix://{}", socket.display()));
        command.arg("--containerd").arg(server).args(["--cgroup-parent", &bed.cgroup_of(name)]);
        command.args(["--storage-driver=overlay2", "--bridge=none"]);
        command.args(["--iptables=false", "--ip6tables=false"]);
        if runtime != "runc" {
            command.args(["--add-runtime", &format!("{runtime}={runtime}")]);
            command.args(["--default-runtime", runtime]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let docker = Self { child: child.context("start dockerd")?, socket };
        let begin = Instant::now();
        while docker.call("GET", "/_ping", "").is_err() {
            let log = || fs::read_to_string(work.join("log")).unwrap_or_default();
            ensure!(begin.elapsed() < PATIENCE, "dockerd does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        docker.import(bed)?;
        Ok(Some(docker))
    }

    fn import(&self, bed: &Bed) -> Result<()> {
        let tar = bed.work().join("image.tar");
        let mut pack = Command::new("tar");
        pack.arg("-C").arg(bed.rootfs()).arg("-cf").arg(&tar).arg(".");
        ensure!(pack.status().context("run tar")?.success(), "tar has failed");
        let mut client = Command::new("docker");
        client.arg("--host").arg(format!("unix://{}", self.socket.display()));
        let output = client.arg("import").arg(&tar).arg(IMAGE).output().context("run docker")?;
        ensure!(output.status.success(), "docker import: {output:?}");
        Ok(())
    }

    /// Makes a container that sleeps.
    pub(crate) fn create(&self, name: &str) -> Result<()> {
        let config = serde_json::json!({
            "Image": IMAGE,
            "Cmd": ["/bin/sleep", "1000000"],
            "HostConfig": { "NetworkMode": "none", "LogConfig": { "Type": "none" } },
        });
        let path = format!("/containers/create?name={name}");
        self.call("POST", &path, &config.to_string()).map(drop)
    }

    /// Starts a container, and returns how long that took.
    pub(crate) fn start_container(&self, name: &str) -> Result<Duration> {
        let begin = Instant::now();
        self.call("POST", &format!("/containers/{name}/start"), "")?;
        Ok(begin.elapsed())
    }

    /// Kills and removes a container.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.call("DELETE", &format!("/containers/{name}?force=1"), "").map(drop)
    }

    /// One request of Docker's API (version 1.41) on a connection of its own; the answer.
    fn call(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.socket).context("connect to dockerd")?;
        let head = format!("{method} /v1.41{path} HTTP/1.0\r\nContent-Type: application/json\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).context("ask dockerd")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("hear from dockerd")?;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        ensure!(status.starts_with('2'), "{method} {path}: {answer}");
        Ok(answer)
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
