//! A client of OCI distribution registries, as the server's transfers need it: it finds out what a reference is,
//! fetches content as a stream from any offset on, and uploads content.
//!
//! # Hosts
//! Which hosts are asked for a registry, and how, is in `hosts.toml` as containerd's users have it. They are asked in turn;
//! the last one again and again while it is busy, after pauses that double or are as long as it says.
//! What is said to a host, credentials first of all, is said to no other that it leads to. Addresses of content outside of
//! the registry are asked first, as by containerd, and without a word of who asks.
//!
//! # Proxies
//! Those of the environment, see [`Proxies`]. A proxy sees nothing of what is said by https but the name of the host.
//!
//! # Bounds
//! Content is passed on as it comes, in parts of at most 128 KiB, which is also the most that the headers of an answer
//! may have; a manifest may have 4 MiB. Each wait has an end (see [`Limits`]): for a connection, for an answer, for the
//! next byte, for the caller's credentials. Content that breaks off is fetched on from there; it fails after several
//! attempts that brought nothing.
//!
//! # Why not oci-client
//! Version 0.18 of [oci-client](https://docs.rs/oci-client/0.18.0) can stream a blob from an offset on. But its one HTTP
//! client for all hosts knows no mirrors with certificates, paths and headers of their own; it never asks twice, nor
//! heeds `Retry-After`; credentials have to be known before; it reads manifests of any size into memory; and an
//! upload in one piece has no known length. It also needs `chrono`, which `deny.toml` bans. This is built on hyper, which tonic brings, and rustls.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod address;
mod answer;
mod auth;
mod blob;
mod dial;
mod elsewhere;
mod error;
mod host;
mod hosts;
mod names;
mod payload;
mod proxy;
mod push;
mod reference;
mod repository;
#[cfg(test)]
mod tests;
mod tls;
mod transport;

use std::{path::PathBuf, sync::Arc, time::Duration};

use auth::Authorizer;
pub use auth::{AskCredential, Credential};
pub use blob::BlobStream;
use elsewhere::Elsewhere;
pub use error::{Fault, RegistryError};
use gantry_disk::{Disks, OwnFiles};
use host::Host;
pub use hosts::Scheme;
use http::HeaderMap;
use names::Names;
pub use payload::{Chunks, Source};
pub use proxy::Proxies;
pub use push::Pushed;
pub use reference::Reference;
use repository::Inner;
pub use repository::{MAX_MANIFEST, Remote, Repository, digest_of};
use rustls::RootCertStore;
use tokio::sync::OnceCell;
use transport::{Means, Transport};

/// How long is waited, and how often asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// For a connection, unless a host is configured otherwise.
    pub dial: Duration,
    /// For an answer, from the last byte that the registry took.
    pub answer: Duration,
    /// For the next byte of an answer.
    pub stalled: Duration,
    /// For the caller's credentials.
    pub credentials: Duration,
    /// How many times a host is asked again in turn without success.
    pub retries: u32,
    /// How long to wait before the first of these. Doubles.
    pub first_pause: Duration,
    /// The longest of these. A host that wants a longer one is not waited for.
    pub longest_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            stalled: Duration::from_secs(30),
            credentials: Duration::from_secs(30),
            retries: 5,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// What a caller wants of a registry.
#[derive(Default)]
pub struct Settings {
    /// Where `HOST/hosts.toml` are.
    pub host_dir: Option<PathBuf>,
    /// How hosts are asked of which nothing is configured; otherwise https, but for this machine's.
    pub default_scheme: Option<Scheme>,
    /// Said in each request to the hosts of the registry.
    pub headers: HeaderMap,
    /// Who asks.
    pub credential: Option<AskCredential>,
}

/// What all registries have in common. Clones are the same.
#[derive(Clone)]
pub struct Registries(Arc<Shared>);

struct Shared {
    disks: Disks,
    files: OwnFiles,
    names: Names,
    proxies: Proxies,
    roots: OnceCell<RootCertStore>,
    limits: Limits,
}

impl Registries {
    /// # Errors
    /// If there is no thread, or the mount table cannot be read.
    pub fn new(limits: Limits, proxies: Proxies) -> Result<Self, RegistryError> {
        let disks = Disks::new().map_err(RegistryError::NoThread)?;
        let files = OwnFiles::new().map_err(RegistryError::NoThread)?;
        let names = Names::new().map_err(RegistryError::NoThread)?;
        Ok(Self(Arc::new(Shared { disks, files, names, proxies, roots: OnceCell::new(), limits })))
    }

    /// Opens the repository of a reference. Nobody is asked yet.
    ///
    /// # Errors
    /// If what is configured for the registry cannot be read, or is wrong; if the caller gives too many headers.
    pub async fn open(
        &self,
        reference: Reference,
        settings: Settings,
    ) -> Result<Repository, RegistryError> {
        let shared = &self.0;
        let Settings { host_dir, default_scheme, headers, credential } = settings;
        let configured =
            hosts::configure(&shared.disks, host_dir.as_ref(), default_scheme, reference.host())
                .await?;
        // The machine's authorities are read once: that takes some milliseconds.
        let read = || shared.files.run(|_| tls::read_roots());
        let roots = shared.roots.get_or_init(read).await;
        // Nobody else is shown what is configured for a host.
        let public = Arc::new(tls::of_machine(roots)?);
        let means = Means {
            names: shared.names.clone(),
            proxies: shared.proxies.clone(),
            proxy_tls: Arc::clone(&public),
        };
        let mut hosts = Vec::with_capacity(configured.len());
        for mut host in configured {
            for (name, value) in &headers {
                let appended = host.headers.try_append(name.clone(), value.clone());
                appended.map_err(|_| RegistryError::Header { name: name.to_string() })?;
            }
            let tls = tls::config(roots, &host)?;
            let transport = Transport::new(
                host.address.clone(),
                means.clone(),
                tls,
                host.may_be_plain,
                host.dial_timeout,
                shared.limits,
            );
            hosts.push(Host {
                stands_for: host.is_mirror.then(|| reference.host().to_owned()),
                address: host.address,
                capabilities: host.capabilities,
                headers: host.headers,
                transport,
                authorizer: Authorizer::new(credential.clone(), shared.limits.credentials),
                limits: shared.limits,
            });
        }
        let elsewhere = Elsewhere::new(means, public, shared.limits);
        Ok(Repository(Arc::new(Inner { reference, hosts, elsewhere })))
    }
}
