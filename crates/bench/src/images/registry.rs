//! Debian's registry on a port of this machine.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

/// Longer than its start takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A registry, until it is dropped.
pub(crate) struct Registry {
    child: Child,
    log: PathBuf,
    pub(crate) host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// `None` where it is not installed.
    pub(crate) async fn start(work: &Path) -> Result<Option<Self>> {
        let work = work.join("registry");
        fs::create_dir_all(&work).context("make the registry's directory")?;
        let config = format!(
            "version: 0.1\nlog: {{ level: info }}\nstorage: {{ filesystem: {{ rootdirectory: {}/data }} }}\n\
             http:\n  addr: 127.0.0.1:0\n  secret: s\n",
            work.display()
        );
        fs::write(work.join("config.yml"), config).context("write the registry's config")?;
        let log = work.join("log");
        let output = File::create(&log).context("make the registry's log")?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(work.join("config.yml")).stdin(Stdio::null());
        command.stdout(output.try_clone().context("a file")?).stderr(output);
        let Ok(child) = command.spawn() else { return Ok(None) };
        let mut registry = Self { child, log, host: String::new() };
        let begin = Instant::now();
        while registry.host.is_empty() {
            ensure!(begin.elapsed() < PATIENCE, "the registry does not listen");
            tokio::time::sleep(Duration::from_millis(5)).await;
            let log = fs::read_to_string(&registry.log).context("read the registry's log")?;
            if let Some((_, rest)) = log.split_once("listening on 127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                registry.host = format!("127.0.0.1:{port}");
            }
        }
        Ok(Some(registry))
    }
}
