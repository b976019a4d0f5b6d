//! Which hosts are asked for a registry, in which order, and how: `DIR/HOST/hosts.toml`, else `DIR/_default/hosts.toml`,
//! or certificates in these directories, as containerd and Docker have them.

mod duration;
mod file;
mod read;

use std::{net::IpAddr, path::PathBuf, time::Duration};

use gantry_disk::Disks;
use http::HeaderMap;

use crate::{RegistryError, address::Address, reference::split_port};

/// What a host is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// Content by its digest.
    pub(crate) pull: bool,
    /// Which digest a tag has.
    pub(crate) resolve: bool,
    /// Uploads.
    pub(crate) push: bool,
}

impl Capabilities {
    pub(crate) const ALL: Self = Self { pull: true, resolve: true, push: true };
}

/// What is configured for a host.
#[derive(Debug)]
struct Given {
    /// `None`: that of the registry itself.
    address: Option<Address>,
    capabilities: Capabilities,
    ca: Vec<PathBuf>,
    client: Vec<(PathBuf, Option<PathBuf>)>,
    skip_verify: Option<bool>,
    headers: HeaderMap,
    dial_timeout: Option<Duration>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            address: None,
            capabilities: Capabilities::ALL,
            ca: Vec::new(),
            client: Vec::new(),
            skip_verify: None,
            headers: HeaderMap::new(),
            dial_timeout: None,
        }
    }
}

/// How a host is asked.
#[derive(Debug)]
pub(crate) struct HostConfig {
    /// Of its API, as `https://registry.example/v2`.
    pub(crate) address: Address,
    /// Whether http is tried if the host does not speak TLS.
    pub(crate) may_be_plain: bool,
    /// Whether it is asked for somebody else, whom it has to be told then.
    pub(crate) is_mirror: bool,
    pub(crate) capabilities: Capabilities,
    /// PEM: what is trusted besides the machine's authorities.
    pub(crate) ca: Vec<(PathBuf, Vec<u8>)>,
    /// PEM: certificates and keys.
    pub(crate) client: Vec<(PathBuf, Vec<u8>, Vec<u8>)>,
    pub(crate) skip_verify: bool,
    pub(crate) headers: HeaderMap,
    pub(crate) dial_timeout: Option<Duration>,
}

/// The hosts to ask for the registry `host`, in their order.
///
/// # Errors
/// If a file cannot be read, or something is wrong in it.
pub(crate) async fn configure(
    disks: &Disks,
    host_dir: Option<&PathBuf>,
    default_scheme: Option<Scheme>,
    host: &str,
) -> Result<Vec<HostConfig>, RegistryError> {
    let given = match host_dir {
        Some(root) => read::hosts(disks, root, host).await?,
        None => vec![Given::default()],
    };
    let mut hosts = Vec::with_capacity(given.len());
    for given in given {
        hosts.push(complete(disks, given, default_scheme, host).await?);
    }
    Ok(hosts)
}

async fn complete(
    disks: &Disks,
    mut given: Given,
    default_scheme: Option<Scheme>,
    host: &str,
) -> Result<HostConfig, RegistryError> {
    let mut address = match given.address.take() {
        Some(address) => address,
        None => {
            given.capabilities = Capabilities::ALL;
            let is_local = is_local(host);
            let port = split_port(host).1;
            if is_local && default_scheme.is_none() && port != Some("80") {
                // Nobody has certificates for names of this machine.
                given.skip_verify = Some(true);
            }
            default_address(host, is_local, default_scheme)
        }
    };
    let has_tls = given.skip_verify.is_some() || !given.ca.is_empty() || !given.client.is_empty();
    // Who configures TLS for an address of http may mean either.
    let may_be_plain =
        !address.is_https && has_tls && split_port(&address.authority).1 != Some("80");
    address.is_https |= may_be_plain;
    let is_mirror =
        address.authority != host && !(host == "docker.io" && address.authority == DOCKER_HUB);
    Ok(HostConfig {
        address,
        may_be_plain,
        is_mirror,
        capabilities: given.capabilities,
        ca: read::certificates(disks, given.ca).await?,
        client: read::pairs(disks, given.client).await?,
        skip_verify: given.skip_verify.unwrap_or(false),
        headers: given.headers,
        dial_timeout: given.dial_timeout,
    })
}

/// Where `docker.io` is.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// How a registry is asked of which nothing is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text.
    Http,
    /// With TLS.
    Https,
}

fn default_address(host: &str, is_local: bool, default_scheme: Option<Scheme>) -> Address {
    let (authority, is_https) = if host == "docker.io" {
        (DOCKER_HUB, true)
    } else {
        let is_https = match default_scheme {
            Some(scheme) => scheme == Scheme::Https,
            None => !is_local || matches!(split_port(host).1, None | Some("443")),
        };
        (host, is_https)
    };
    Address { is_https, authority: authority.to_owned(), path: "/v2".to_owned(), query: None }
}

/// Whether a host is this machine by its name.
fn is_local(host: &str) -> bool {
    let name = split_port(host).0.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn alone(host: &str, scheme: Option<Scheme>) -> (String, bool, bool) {
        let hosts = configure(&Disks::new().unwrap(), None, scheme, host).await.unwrap();
        assert_eq!(hosts.len(), 1);
        (hosts[0].address.to_string(), hosts[0].may_be_plain, hosts[0].skip_verify)
    }

    #[tokio::test]
    async fn without_a_file_the_scheme_is_containerds() {
        for (host, scheme, address, may_be_plain, skip_verify) in [
            ("docker.io", None, "https://registry-1.docker.io/v2", false, false),
            ("registry.example", None, "https://registry.example/v2", false, false),
            ("registry.example", Some(Scheme::Http), "http://registry.example/v2", false, false),
            ("localhost:5000", None, "https://localhost:5000/v2", true, true),
            ("localhost:5000", Some(Scheme::Http), "http://localhost:5000/v2", false, false),
            ("localhost:80", None, "http://localhost:80/v2", false, false),
            ("localhost", None, "https://localhost/v2", false, true),
            ("127.0.0.2:5000", None, "https://127.0.0.2:5000/v2", true, true),
            ("[::1]:5000", None, "https://[::1]:5000/v2", true, true),
        ] {
            let expected = (address.to_owned(), may_be_plain, skip_verify);
            assert_eq!(alone(host, scheme).await, expected, "{host} {scheme:?}");
        }
    }

    #[tokio::test]
    async fn the_nearest_directory_counts() {
        let root = tempfile::tempdir().unwrap();
        let directory = |name: &str, server: &str| {
            let directory = root.path().join(name);
            std::fs::create_dir(&directory).unwrap();
            std::fs::write(directory.join("hosts.toml"), format!("server = {server:?}")).unwrap();
        };
        directory("_default", "https://default.example");
        directory("h.example:5000", "https://colon.example");
        let root = root.path().to_owned();
        let disks = Disks::new().unwrap();
        let first = async |host: &str| {
            let hosts = configure(&disks, Some(&root), None, host).await.unwrap();
            (hosts[0].address.authority.clone(), hosts[0].is_mirror)
        };
        assert_eq!(first("other.example").await, ("default.example".to_owned(), true));
        assert_eq!(first("h.example:5000").await.0, "colon.example");
        directory("h.example_5000_", "https://h.example:5000");
        assert_eq!(first("h.example:5000").await, ("h.example:5000".to_owned(), false));
    }

    #[tokio::test]
    async fn certificates_without_a_file_are_dockers() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("h.example");
        std::fs::create_dir(&directory).unwrap();
        for name in ["a.crt", "b.cert", "b.key", "c.cert", "other"] {
            std::fs::write(directory.join(name), name).unwrap();
        }
        let hosts =
            configure(&Disks::new().unwrap(), Some(&root.path().to_owned()), None, "h.example")
                .await;
        let hosts = hosts.unwrap();
        assert_eq!(hosts[0].address.to_string(), "https://h.example/v2");
        assert_eq!(hosts[0].ca[0].1, b"a.crt");
        let pairs: Vec<_> = hosts[0]
            .client
            .iter()
            .map(|(_, certificate, key)| (&certificate[..], &key[..]))
            .collect();
        assert_eq!(pairs, [(&b"b.cert"[..], &b"b.key"[..]), (&b"c.cert"[..], &b"c.cert"[..])]);
    }

    #[tokio::test]
    async fn a_wrong_file_is_named() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("h.example");
        std::fs::create_dir(&directory).unwrap();
        let file = directory.join("hosts.toml");
        let configure = async || {
            let hosts =
                configure(&Disks::new().unwrap(), Some(&root.path().to_owned()), None, "h.example")
                    .await;
            hosts.unwrap_err().to_string()
        };
        std::fs::write(&file, "capabilities = [\"fly\"]").unwrap();
        assert!(configure().await.starts_with(&format!("{}: capabilities:", file.display())));
        std::fs::write(&file, "ca = \"none.pem\"").unwrap();
        assert!(
            configure().await.starts_with(&format!("{}: ", directory.join("none.pem").display()))
        );
    }
}
