//! Uploads: content that the registry has is not sent, what another of its repositories has is mounted.

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use crate::{
    RegistryError, Repository,
    address::Address,
    answer::Answer,
    host::Host,
    payload::{Content, Source},
    repository::{Remote, text},
};

/// What was done to bring content into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// Another repository of the registry had it.
    Mounted,
    /// It was sent.
    Sent,
}

impl Repository {
    /// The host that takes uploads: the first one.
    fn upload_host(&self) -> Result<&Host, RegistryError> {
        self.hosts("push", |can| can.push).map(|hosts| hosts[0])
    }

    /// Brings content into the repository, which the repository `mount_from` of the registry may have.
    ///
    /// # Errors
    /// If the registry does not take it; it is sent anew as often as [`Limits::retries`](crate::Limits::retries) says.
    pub async fn push_blob(
        &self,
        blob: &Remote,
        mount_from: Option<&str>,
        source: &dyn Source,
    ) -> Result<Pushed, RegistryError> {
        let host = self.upload_host()?;
        let scopes = [self.scope("pull,push")];
        if self.is_there(host, &scopes, blob, &format!("blobs/{}", blob.digest)).await? {
            return Ok(Pushed::Existed);
        }
        if let Some(from) = mount_from
            && self.mount(host, blob, from).await?
        {
            return Ok(Pushed::Mounted);
        }
        let mut attempts = 0;
        loop {
            let error = match self.upload(host, &scopes, blob, source).await {
                Err(error) if error.is_temporary() => error,
                sent => return sent.map(|()| Pushed::Sent),
            };
            attempts += 1;
            let Some(pause) = host.limits.pause(attempts, error.retry_after()) else {
                return Err(error);
            };
            tracing::info!(%error, digest = %blob.digest, ?pause, "an upload begins anew");
            tokio::time::sleep(pause).await;
        }
    }

    /// Brings a manifest or an index into the repository: if `is_named`, under the tag that the repository was opened
    /// for; otherwise, as one of the manifests of an index, under its digest.
    ///
    /// # Errors
    /// If the registry does not take it.
    pub async fn push_manifest(
        &self,
        manifest: &Remote,
        data: Bytes,
        is_named: bool,
    ) -> Result<Pushed, RegistryError> {
        let host = self.upload_host()?;
        let scopes = [self.scope("pull,push")];
        let tag = self.reference().tag().filter(|_| is_named);
        let object = tag.map_or_else(|| manifest.digest.to_string(), ToOwned::to_owned);
        let path = format!("manifests/{object}");
        if self.is_there(host, &scopes, manifest, &path).await? {
            return Ok(Pushed::Existed);
        }
        let mut request = Self::request(Method::PUT, &scopes)
            .header(header::CONTENT_TYPE, text(&manifest.media_type));
        request.content = Content::Whole(data);
        let address = host.address_of(self.reference().repository(), &path);
        let answer = host.ask(&request, &address, true).await?;
        self.taken(answer, manifest).await?;
        Ok(Pushed::Sent)
    }

    /// Whether the registry has content at a path of the repository; a tag may be that of other content.
    async fn is_there(
        &self,
        host: &Host,
        scopes: &[String],
        content: &Remote,
        path: &str,
    ) -> Result<bool, RegistryError> {
        let accept = text(&format!("{}, */*", content.media_type));
        let request = Self::request(Method::HEAD, scopes).header(header::ACCEPT, accept);
        let address = host.address_of(self.reference().repository(), path);
        let answer = host.ask(&request, &address, true).await?;
        match answer.status() {
            StatusCode::OK if path.ends_with(content.digest.as_str()) => Ok(true),
            StatusCode::OK => Ok(self.said_digest(&answer)?.as_ref() == Some(&content.digest)),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(answer.into_error().await),
        }
    }

    /// Takes content over from another repository. Who may not read that one sends the content.
    async fn mount(&self, host: &Host, blob: &Remote, from: &str) -> Result<bool, RegistryError> {
        let scopes = [format!("repository:{from}:pull"), self.scope("pull,push")];
        let address = host.address_of(self.reference().repository(), "blobs/uploads/");
        let address = address.with_query("mount", blob.digest.as_str()).with_query("from", from);
        let mut request = Self::request(Method::POST, &scopes);
        request.content = Content::Whole(Bytes::new());
        match host.ask(&request, &address, true).await {
            Ok(answer) if answer.status() == StatusCode::CREATED => Ok(true),
            // An upload that has begun instead is given up by the registry after some time.
            Ok(_) => Ok(false),
            Err(error @ (RegistryError::Status { .. } | RegistryError::Unauthorized { .. })) => {
                tracing::info!(%error, from, "content of another repository cannot be mounted");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends content, in one piece.
    async fn upload(
        &self,
        host: &Host,
        scopes: &[String],
        blob: &Remote,
        source: &dyn Source,
    ) -> Result<(), RegistryError> {
        let address = host.address_of(self.reference().repository(), "blobs/uploads/");
        let mut begin = Self::request(Method::POST, scopes);
        begin.content = Content::Whole(Bytes::new());
        let answer = host.ask(&begin, &address, true).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(());
        }
        let answer =
            answer.expect(&[StatusCode::OK, StatusCode::ACCEPTED, StatusCode::NO_CONTENT]).await?;
        let upload = upload_address(&answer)?;
        let octets = HeaderValue::from_static("application/octet-stream");
        let mut send = Self::request(Method::PUT, scopes).header(header::CONTENT_TYPE, octets);
        send.content = Content::Source(blob.size, source);
        let to = upload.clone().with_query("digest", blob.digest.as_str());
        let answer = if upload.is_same_host(&answer.address) && host.transport.is_home(&upload) {
            host.ask_once(&send, &host.told(to)).await?
        } else {
            // Elsewhere the address says who may send; nobody else is to know the credentials.
            host.ask_stranger(send, to).await?
        };
        self.taken(answer, blob).await
    }

    /// Whether what was sent has arrived.
    async fn taken(&self, answer: Answer, content: &Remote) -> Result<(), RegistryError> {
        let answer =
            answer.expect(&[StatusCode::OK, StatusCode::CREATED, StatusCode::NO_CONTENT]).await?;
        match self.said_digest(&answer)? {
            Some(actual)
                if actual != content.digest && actual.algorithm() == content.digest.algorithm() =>
            {
                let (blob, address) = (content.digest.clone(), answer.address.to_string());
                Err(RegistryError::Digest { blob, address, actual })
            }
            _ => Ok(()),
        }
    }
}

/// Where to send to.
fn upload_address(answer: &Answer) -> Result<Address, RegistryError> {
    let wrong =
        |problem: String| RegistryError::Answer { address: answer.address.to_string(), problem };
    let Some(location) = answer.header(header::LOCATION) else {
        return Err(wrong("does not say where to send to, in Location".to_owned()));
    };
    answer
        .address
        .follow(location)
        .map_err(|problem| wrong(format!("wants content sent to what {problem}")))
}
