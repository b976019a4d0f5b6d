//! A repository of a registry, on whichever of its hosts, and the content that it has.

use std::sync::Arc;

use bytes::Bytes;
use gantry_store::{Algorithm, Digest};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::{
    Reference, RegistryError,
    answer::Answer,
    blob::BlobStream,
    elsewhere::Elsewhere,
    host::{Host, Request},
    hosts::Capabilities,
};

/// The largest manifest or index.
pub const MAX_MANIFEST: u64 = 4 << 20;

/// What an image can be described by.
const MANIFEST_TYPES: [&str; 4] = [
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
];

/// The digest of content, as the registry says it.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// Content of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// As `application/vnd.oci.image.manifest.v1+json`.
    pub media_type: String,
    /// Which content it is.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Where else it is, and looked for first: up to 16 addresses of at most 4096 bytes count.
    pub urls: Vec<String>,
}

impl Remote {
    /// Whether it describes an image, or several.
    #[must_use]
    pub fn is_manifest(&self) -> bool {
        MANIFEST_TYPES.contains(&self.media_type.as_str())
    }

    /// Where it is in a repository.
    fn path(&self) -> String {
        let kind = if self.is_manifest() { "manifests" } else { "blobs" };
        format!("{kind}/{}", self.digest)
    }
}

/// A repository. Clones are the same, and share tokens and connections.
#[derive(Clone)]
pub struct Repository(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) reference: Reference,
    pub(crate) hosts: Vec<Host>,
    pub(crate) elsewhere: Elsewhere,
}

impl Repository {
    /// What this was opened for.
    #[must_use]
    pub fn reference(&self) -> &Reference {
        &self.0.reference
    }

    /// The hosts that can be asked for something, the last one last.
    pub(crate) fn hosts(
        &self,
        what: &'static str,
        can: impl Fn(&Capabilities) -> bool,
    ) -> Result<Vec<&Host>, RegistryError> {
        let hosts: Vec<_> = self.0.hosts.iter().filter(|host| can(&host.capabilities)).collect();
        let host = || self.0.reference.host().to_owned();
        if hosts.is_empty() { Err(RegistryError::NoHost { host: host(), what }) } else { Ok(hosts) }
    }

    /// What a token has to allow.
    pub(crate) fn scope(&self, actions: &str) -> String {
        format!("repository:{}:{actions}", self.0.reference.repository())
    }

    /// Finds out what the reference is. Its hosts are asked in turn.
    ///
    /// # Errors
    /// If no host knows; the error that says most.
    pub async fn resolve(&self) -> Result<Remote, RegistryError> {
        let reference = &self.0.reference;
        let (object, hosts) = match (reference.digest(), reference.tag()) {
            (Some(digest), _) => (digest.to_string(), self.hosts("pull", |can| can.pull)?),
            (None, Some(tag)) => {
                (tag.to_owned(), self.hosts("resolve", |can| can.pull && can.resolve)?)
            }
            (None, None) => {
                let problem = "has neither a tag nor a digest".to_owned();
                return Err(RegistryError::Reference { reference: reference.to_string(), problem });
            }
        };
        let mut first: Option<RegistryError> = None;
        for (n, host) in hosts.iter().enumerate() {
            match self.resolve_at(host, &object, n + 1 == hosts.len()).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::info!(%error, "a host does not know an image");
                    // A host that answered knows more than one that did not, and one that has it not knows less.
                    if first.as_ref().is_none_or(|first| weight(&error) > weight(first)) {
                        first = Some(error);
                    }
                }
            }
        }
        match first {
            Some(error) => Err(error),
            None => unreachable!("there is a host"),
        }
    }

    async fn resolve_at(
        &self,
        host: &Host,
        object: &str,
        is_last: bool,
    ) -> Result<Remote, RegistryError> {
        let scopes = [self.scope("pull")];
        let address =
            host.address_of(self.0.reference.repository(), &format!("manifests/{object}"));
        let accept = format!("{}, */*", MANIFEST_TYPES.join(", "));
        let ask = async |method: Method| {
            let request = Self::request(method, &scopes).header(header::ACCEPT, text(&accept));
            host.ask(&request, &address, is_last).await
        };
        let mut answer = ask(Method::HEAD).await?;
        if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
            answer = ask(Method::GET).await?;
        }
        let answer = answer.expect(&[StatusCode::OK]).await?;
        let media_type = media_type(&answer)?;
        let said = self.said_digest(&answer)?;
        let expected = self.0.reference.digest();
        if let (Some(said), Some(expected)) = (&said, expected)
            && said != expected
            && said.algorithm() == expected.algorithm()
        {
            return Err(RegistryError::Digest {
                blob: expected.clone(),
                address: answer.address.to_string(),
                actual: said.clone(),
            });
        }
        if let (Some(digest), Some(size)) = (expected.cloned().or(said), answer.length()) {
            if size > MAX_MANIFEST {
                let (what, address) = ("the manifest".to_owned(), answer.address.to_string());
                return Err(RegistryError::TooLarge { what, address, limit: MAX_MANIFEST });
            }
            return Ok(Remote { media_type, digest, size, urls: Vec::new() });
        }
        // Not every registry says it: then it is computed.
        let answer = ask(Method::GET).await?.expect(&[StatusCode::OK]).await?;
        let address = answer.address.to_string();
        let manifest = answer.whole("the manifest", MAX_MANIFEST).await?;
        let algorithm = expected.map_or(Algorithm::Sha256, Digest::algorithm);
        let actual = digest_of(algorithm, &manifest);
        if let Some(expected) = expected.filter(|expected| **expected != actual) {
            return Err(RegistryError::Digest { blob: expected.clone(), address, actual });
        }
        let (size, urls) = (manifest.len() as u64, Vec::new());
        Ok(Remote { media_type, digest: actual, size, urls })
    }

    /// The digest that an answer has by its header.
    pub(crate) fn said_digest(&self, answer: &Answer) -> Result<Option<Digest>, RegistryError> {
        let Some(said) = answer.header(CONTENT_DIGEST).filter(|said| !said.is_empty()) else {
            return Ok(None);
        };
        Digest::parse(said).map(Some).map_err(|problem| RegistryError::Answer {
            address: answer.address.to_string(),
            problem: format!("its header Docker-Content-Digest is no digest: {problem}"),
        })
    }

    /// Fetches a manifest or an index, whose size and digest are compared.
    ///
    /// # Errors
    /// If no host has it as it should be.
    pub async fn manifest(&self, of: &Remote) -> Result<Bytes, RegistryError> {
        if of.size > MAX_MANIFEST {
            let (what, address) = (of.digest.to_string(), self.0.reference.host().to_owned());
            return Err(RegistryError::TooLarge { what, address, limit: MAX_MANIFEST });
        }
        match self.whole(of).await {
            // An address outside of the registry gave something else.
            Err(RegistryError::Digest { .. }) if !of.urls.is_empty() => {
                self.whole(&Remote { urls: Vec::new(), ..of.clone() }).await
            }
            manifest => manifest,
        }
    }

    /// All of some content, if it is what it should be.
    async fn whole(&self, of: &Remote) -> Result<Bytes, RegistryError> {
        let mut blob = self.blob(of, 0);
        let mut whole = Vec::new();
        while let Some(chunk) = blob.next().await? {
            whole.extend_from_slice(&chunk);
        }
        let actual = digest_of(of.digest.algorithm(), &whole);
        if actual != of.digest {
            let (blob, address) = (of.digest.clone(), self.0.reference.host().to_owned());
            return Err(RegistryError::Digest { blob, address, actual });
        }
        Ok(whole.into())
    }

    /// Content from `offset` on, as it comes. Its size is compared, its digest is not.
    #[must_use]
    pub fn blob(&self, of: &Remote, offset: u64) -> BlobStream {
        BlobStream::new(self.clone(), of.clone(), of.path(), offset)
    }

    pub(crate) fn request(method: Method, scopes: &[String]) -> Request<'_> {
        let agent = HeaderValue::from_static(concat!("gantry/", env!("CARGO_PKG_VERSION")));
        Request::new(method, scopes).header(header::USER_AGENT, agent)
    }
}

/// How much an error says about an image that several hosts were asked for.
fn weight(error: &RegistryError) -> u8 {
    match error {
        RegistryError::Transport { .. } | RegistryError::Stalled { .. } => 0,
        RegistryError::Status { status, .. } if *status == StatusCode::NOT_FOUND => 1,
        _ => 2,
    }
}

/// What an answer is. Parameters are for text.
fn media_type(answer: &Answer) -> Result<String, RegistryError> {
    let said = answer.header(header::CONTENT_TYPE).unwrap_or_default();
    let media_type = said.split(';').next().unwrap_or_default().trim();
    if media_type.is_empty() {
        let problem = "does not say what the manifest is, in Content-Type".to_owned();
        return Err(RegistryError::Answer { address: answer.address.to_string(), problem });
    }
    Ok(media_type.to_owned())
}

/// Text that can stand in a header; what cannot is left out.
pub(crate) fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("*/*"))
}

/// The digest of data.
#[must_use]
pub fn digest_of(algorithm: Algorithm, data: &[u8]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::new(algorithm, &Sha256::digest(data)),
        Algorithm::Sha384 => Digest::new(algorithm, &Sha384::digest(data)),
        Algorithm::Sha512 => Digest::new(algorithm, &Sha512::digest(data)),
    }
}
