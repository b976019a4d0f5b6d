//! Calls netavark, which makes bridges, interfaces, routes, masquerading and published ports.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result, model::Port, networks::Network, subnet::Subnet};

/// How long netavark may take; it waits for others that change the firewall.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Netavark {
    program: PathBuf,
    /// netavark needs a directory of its own.
    dir: PathBuf,
    /// Two at once would both make the chains that all containers share.
    at_work: Mutex<()>,
}

/// Its command.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Setup,
    Teardown,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Action::Setup => "setup",
            Action::Teardown => "teardown",
        }
    }
}

/// What it reads: the same for both commands.
#[derive(Debug, Serialize)]
pub(crate) struct Request {
    container_id: String,
    container_name: String,
    port_mappings: Vec<PortMapping>,
    networks: BTreeMap<String, Connection>,
    network_info: BTreeMap<String, NetworkInfo>,
}

#[derive(Debug, Serialize)]
struct PortMapping {
    container_port: u16,
    host_ip: String,
    host_port: u16,
    protocol: &'static str,
    range: u16,
}

#[derive(Debug, Serialize)]
struct Connection {
    interface_name: String,
    static_ips: Vec<Ipv4Addr>,
}

#[derive(Debug, Serialize)]
struct NetworkInfo {
    name: String,
    id: String,
    driver: &'static str,
    network_interface: String,
    subnets: Vec<SubnetInfo>,
    ipv6_enabled: bool,
    internal: bool,
    /// Names are resolved by hosts files.
    dns_enabled: bool,
    ipam_options: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Serialize)]
struct SubnetInfo {
    subnet: Subnet,
    gateway: Ipv4Addr,
}

/// What it prints when it fails.
#[derive(Debug, Deserialize)]
struct Failure {
    error: String,
}

impl Request {
    pub(crate) fn new(id: &str, name: &str, ports: &[Port]) -> Request {
        let mapping = |port: &Port| PortMapping {
            container_port: port.container,
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: port.host,
            protocol: port.protocol.name(),
            range: 1,
        };
        Request {
            container_id: id.to_owned(),
            container_name: name.to_owned(),
            port_mappings: ports.iter().map(mapping).collect(),
            networks: BTreeMap::new(),
            network_info: BTreeMap::new(),
        }
    }

    /// Adds a connection to a network.
    pub(crate) fn connect(&mut self, network: &Network, interface: &str, address: Ipv4Addr) {
        let connection =
            Connection { interface_name: interface.to_owned(), static_ips: vec![address] };
        let Network { name, id, subnet } = network;
        let info = NetworkInfo {
            name: name.clone(),
            id: id.clone(),
            driver: "bridge",
            network_interface: network.interface(),
            subnets: vec![SubnetInfo { subnet: *subnet, gateway: subnet.gateway() }],
            ipv6_enabled: false,
            internal: false,
            dns_enabled: false,
            ipam_options: BTreeMap::from([("driver", "host-local")]),
        };
        self.networks.insert(name.clone(), connection);
        self.network_info.insert(name.clone(), info);
    }
}

impl Netavark {
    pub(crate) fn new(program: PathBuf, dir: PathBuf) -> Netavark {
        Netavark { program, dir, at_work: Mutex::default() }
    }

    /// Runs it to its end, on a thread that may block.
    pub(crate) fn run(&self, action: Action, request: &Request, netns: &Path) -> Result<()> {
        let _at_work = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = |error| Error::io("run", &self.program, error);
        let input = serde_json::to_vec(request).map_err(io::Error::from).map_err(failed)?;
        let child = self.spawn(action, netns).map_err(failed)?;
        let output = talk(child, &input).map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let words = match serde_json::from_slice::<Failure>(&output.stdout) {
            Ok(failure) => failure.error,
            Err(_) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        };
        Err(Error::Netavark {
            action: action.name(),
            id: request.container_id.clone(),
            message: format!("{words} ({})", output.status),
        })
    }

    #[allow(clippy::disallowed_methods, reason = "`talk` sees to the deadline and reaps")]
    fn spawn(&self, action: Action, netns: &Path) -> io::Result<Child> {
        Command::new(&self.program)
            .arg("--config")
            .arg(&self.dir)
            .arg(action.name())
            .arg(netns)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// Its answer is a few hundred bytes, which fit into the pipe until it has ended.
fn talk(mut child: Child, input: &[u8]) -> io::Result<Output> {
    if let Some(mut stdin) = child.stdin.take() {
        // If netavark does not read, its exit status says why.
        let _ = stdin.write_all(input);
    }
    let ended = ends_within(&child, DEADLINE);
    if !matches!(ended, Ok(true)) {
        // It has not been reaped, so it can be killed.
        child.kill()?;
        child.wait()?;
        ended?;
        return Err(io::ErrorKind::TimedOut.into());
    }
    child.wait_with_output()
}

fn ends_within(child: &Child, time: Duration) -> io::Result<bool> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let deadline = Timespec::try_from(time).map_err(io::Error::other)?;
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    Ok(rustix::io::retry_on_intr(|| poll(&mut fds, Some(&deadline)))? > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn run(script: &str) -> Result<()> {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("netavark");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let request = Request::new("abc", "web", &[]);
        Netavark::new(program, dir.path().to_owned()).run(
            Action::Setup,
            &request,
            Path::new("/run/ns"),
        )
    }

    // One test: where two write and run programs at once, one's fork keeps the other's program
    // open for writing for a moment, and then it cannot be run (ETXTBSY).
    #[test]
    fn reads_the_request_and_reports_why_it_fails() {
        run(r#"grep -q '"container_id":"abc"' && [ "$3 $4" = "setup /run/ns" ]"#).unwrap();
        let error = run(r#"echo '{"error":"no bridge"}'; exit 1"#).unwrap_err().to_string();
        assert_eq!(error, "netavark setup for container abc: no bridge (exit status: 1)");
        let error = run("echo crashed >&2; exit 101").unwrap_err().to_string();
        assert!(error.contains("crashed (exit status: 101)"), "{error}");
    }
}
