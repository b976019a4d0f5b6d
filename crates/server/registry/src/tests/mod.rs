//! The client against registries that misbehave.

mod auth;
mod blobs;
mod elsewhere;
mod manifests;
mod mirrors;
mod proxies;
mod push;
mod redirects;
mod registry;
mod secrets;
mod tls;

use std::{sync::Arc, time::Duration};

use gantry_store::{Algorithm, Digest};
use registry::Registry;

use crate::{
    AskCredential, Credential, Limits, Proxies, Reference, Registries, RegistryError, Remote,
    Repository, Scheme, Settings, digest_of,
};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Nobody waits for long in a test, but longer than a busy machine takes.
const LIMITS: Limits = Limits {
    dial: Duration::from_secs(10),
    answer: Duration::from_secs(10),
    stalled: Duration::from_secs(10),
    credentials: Duration::from_secs(10),
    retries: 3,
    first_pause: Duration::from_millis(1),
    longest_pause: Duration::from_secs(5),
};

/// Those of a registry that does not answer.
const IMPATIENT: Limits = Limits {
    answer: Duration::from_millis(500),
    stalled: Duration::from_millis(500),
    credentials: Duration::from_millis(500),
    ..LIMITS
};

async fn open(
    limits: Limits,
    reference: &str,
    settings: Settings,
) -> Result<Repository, RegistryError> {
    let registries = Registries::new(limits, Proxies::default())?;
    registries.open(Reference::parse(reference)?, settings).await
}

fn plain() -> Settings {
    Settings { default_scheme: Some(Scheme::Http), ..Settings::default() }
}

fn as_user(credential: Credential) -> Settings {
    let ask: AskCredential = Arc::new(move |_| {
        let credential = credential.clone();
        Box::pin(async move { Ok(Some(credential)) })
    });
    Settings { credential: Some(ask), ..plain() }
}

fn password() -> Credential {
    Credential::Password { username: "ann".to_owned(), secret: "p&ss w:rd".to_owned() }
}

/// The repository `a/b` of a registry, at the tag `t`.
async fn repository(registry: &Registry) -> Repository {
    open(LIMITS, &format!("{}/a/b:t", registry.host()), plain()).await.unwrap()
}

fn remote(media_type: &str, data: &[u8]) -> Remote {
    let digest = digest_of(Algorithm::Sha256, data);
    Remote { media_type: media_type.to_owned(), digest, size: data.len() as u64, urls: vec![] }
}

fn other_digest() -> Digest {
    digest_of(Algorithm::Sha256, b"something else")
}

/// What is no multiple of anything.
fn data(length: usize) -> Vec<u8> {
    (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// Reads content from an offset on.
async fn read(repository: &Repository, of: &Remote, offset: u64) -> Result<Vec<u8>, RegistryError> {
    let mut blob = repository.blob(of, offset);
    let mut read = Vec::new();
    while let Some(chunk) = blob.next().await? {
        read.extend_from_slice(&chunk);
    }
    Ok(read)
}
