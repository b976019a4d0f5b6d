//! Debian's registry, run by a test on a port of this machine with its files in the test's directory.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{eventually, skip};

/// As which it lets somebody in: `htpasswd -nbB ann secret`.
pub const USER: (&str, &str) = ("ann", "secret");
const HTPASSWD: &str = "ann:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// What a registry wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// A name and a password.
    Login,
    /// TLS, with the certificate `server.pem` and its key in the registry's directory.
    Tls,
}

/// A registry, until it is dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    /// Starts one in this directory. `None`, after saying so, where there is none.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start(directory: &Path, kind: Kind) -> Option<Self> {
        fs::create_dir_all(directory).unwrap();
        let path = |name: &str| directory.join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{ level: info }}\n\
             storage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp:\n  addr: 127.0.0.1:0\n  secret: s\n",
            path("data")
        );
        if kind == Kind::Tls {
            let tls = format!(
                "  tls: {{ certificate: {}, key: {} }}\n",
                path("server.pem"),
                path("server.key")
            );
            config.push_str(&tls);
        }
        if kind == Kind::Login {
            fs::write(directory.join("htpasswd"), HTPASSWD).unwrap();
            config.push_str(&format!(
                "auth: {{ htpasswd: {{ realm: r, path: {} }} }}\n",
                path("htpasswd")
            ));
        }
        fs::write(directory.join("config.yml"), config).unwrap();
        let log = directory.join("log");
        let written = File::create(&log).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(directory.join("config.yml")).stdin(Stdio::null());
        command.stdout(written.try_clone().unwrap()).stderr(written);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                skip("docker-registry is missing, of the Debian package of that name");
                return None;
            }
            Err(error) => panic!("docker-registry: {error}"),
        };
        let mut registry = Self { child, log, port: 0 };
        eventually("the registry listens", || {
            let log = registry.log();
            let listening = log.split("listening on 127.0.0.1:").nth(1);
            let digits =
                listening.map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap());
            registry.port = digits.map_or(0, |digits| digits.parse().unwrap());
            registry.port != 0
        })
        .await;
        Some(registry)
    }

    /// On 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As references begin with it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// What it was asked and how it answered, of requests that have this in them: `GET /v2/… 200`.
    ///
    /// # Panics
    /// When its log cannot be read.
    #[must_use]
    pub fn answered(&self, part: &str) -> Vec<String> {
        // In the form of Apache, beside the registry's own lines.
        let line = |line: &str| {
            let (_, rest) = line.strip_prefix("127.0.0.1 - ")?.split_once('"')?;
            let (request, rest) = rest.split_once(" HTTP/1.1\" ")?;
            let status = rest.split(' ').next()?;
            Some(format!("{request} {status}"))
        };
        self.log().lines().filter_map(line).filter(|line| line.contains(part)).collect()
    }
}
