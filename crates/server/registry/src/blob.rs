//! Content as it comes: fetched again from where it broke off, from whichever host has it.

use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, StatusCode, header};
use tokio::time::{Instant, timeout};

use crate::{
    RegistryError, Repository,
    address::Address,
    answer::Answer,
    elsewhere::Addresses,
    host::{Host, Request},
    repository::{Remote, text},
};

/// Content that is read from some offset on.
pub struct BlobStream {
    repository: Repository,
    remote: Remote,
    path: String,
    /// Outside of the registry.
    elsewhere: Addresses,
    /// Of the next byte.
    offset: u64,
    answer: Option<Answer>,
    /// The address outside of the registry that the answer is from, and the offset at which it was asked.
    from: Option<(Address, u64)>,
    /// Which host is asked first: after an answer the one behind its host, which would break off again.
    next_host: usize,
    /// How many bytes of the answer are there already.
    surplus: u64,
    /// How often in turn nothing came.
    failures: u32,
}

impl BlobStream {
    pub(crate) fn new(repository: Repository, remote: Remote, path: String, offset: u64) -> Self {
        let elsewhere = repository.0.elsewhere.addresses(&remote.urls);
        Self {
            repository,
            remote,
            path,
            elsewhere,
            offset,
            answer: None,
            from: None,
            next_host: 0,
            surplus: 0,
            failures: 0,
        }
    }

    /// Where the next part begins.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next part, as it came from the network; `None` once all bytes are there.
    ///
    /// # Errors
    /// If no host has it, or not of this size, or none answers for several attempts. After an error the content
    /// can be asked for again from [`BlobStream::offset`] on.
    pub async fn next(&mut self) -> Result<Option<Bytes>, RegistryError> {
        loop {
            if self.answer.is_none() && self.offset == self.remote.size {
                return Ok(None);
            }
            let mut answer = match self.answer.take() {
                Some(answer) => answer,
                None => {
                    // Boxed, as it is large, and seldom needed.
                    let (answer, surplus) = Box::pin(self.open()).await?;
                    self.surplus = surplus;
                    answer
                }
            };
            let error = match answer.chunk().await {
                Ok(Some(mut chunk)) => {
                    let surplus = self.surplus.min(chunk.len() as u64);
                    self.surplus -= surplus;
                    chunk.advance(usize::try_from(surplus).unwrap_or(chunk.len()));
                    let end = self.offset + chunk.len() as u64;
                    if end <= self.remote.size {
                        self.offset = end;
                        // Kept also at the end: more than there should be is seen by reading on.
                        self.answer = Some(answer);
                        if chunk.is_empty() {
                            continue;
                        }
                        self.failures = 0;
                        return Ok(Some(chunk));
                    }
                    self.wrong_size(&answer, end)
                }
                _ if self.surplus == 0 && self.offset == self.remote.size => return Ok(None),
                Ok(None) => self.wrong_size(&answer, self.offset - self.surplus),
                Err(error) => error,
            };
            match self.from.take() {
                Some((address, from)) => {
                    tracing::info!(%error, "an address does not give the rest of content");
                    if error.is_temporary() && self.offset > from {
                        self.elsewhere.broke_off(address);
                    }
                }
                None if error.is_temporary() => self.pause(error).await?,
                None => return Err(error),
            }
        }
    }

    /// Waits before the next attempt.
    async fn pause(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.failures += 1;
        let limits = self.repository.0.hosts.last().map(|host| &host.limits);
        let pause = limits.and_then(|limits| limits.pause(self.failures, None));
        let Some(pause) = pause else { return Err(error) };
        tracing::info!(%error, digest = %self.remote.digest, offset = self.offset, "content is fetched on");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Asks in turn who has it outside of the registry, then the registry's hosts, and then who had a part of it; how many
    /// bytes of the answer are there already. The error is the registry's.
    async fn open(&mut self) -> Result<(Answer, u64), RegistryError> {
        if let Some(opened) = self.open_elsewhere(false).await {
            return Ok(opened);
        }
        match self.open_in_registry().await {
            Ok(opened) => Ok(opened),
            Err(error) => self.open_elsewhere(true).await.ok_or(error),
        }
    }

    async fn open_elsewhere(&mut self, is_broken: bool) -> Option<(Answer, u64)> {
        while let Some((address, within)) = self.elsewhere.take(is_broken) {
            let begun = Instant::now();
            match timeout(within, self.open_address(address.clone())).await {
                Ok(Ok(opened)) => {
                    self.from = Some((address, self.offset));
                    return Some(opened);
                }
                Ok(Err(error)) => tracing::info!(%error, "an address does not give content"),
                Err(_) => tracing::info!(%address, ?within, "an address gives nothing in time"),
            }
            self.elsewhere.waited(begun.elapsed());
        }
        None
    }

    async fn open_in_registry(&mut self) -> Result<(Answer, u64), RegistryError> {
        let repository = self.repository.clone();
        let hosts = repository.hosts("pull", |can| can.pull)?;
        let mut first = None;
        for n in 0..hosts.len() {
            let at = (self.next_host + n) % hosts.len();
            match self.open_at(hosts[at], n + 1 == hosts.len()).await {
                Ok(answer) => {
                    self.next_host = at + 1;
                    return Ok(answer);
                }
                Err(error) => {
                    tracing::info!(%error, "a host does not give content");
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            Some(error) => Err(error),
            None => unreachable!("there is a host"),
        }
    }

    async fn open_address(&self, address: Address) -> Result<(Answer, u64), RegistryError> {
        let answer = self.repository.0.elsewhere.ask(self.request(&[]), address).await?;
        self.check(answer).await
    }

    async fn open_at(&self, host: &Host, is_last: bool) -> Result<(Answer, u64), RegistryError> {
        let scopes = [self.repository.scope("pull")];
        let address = host.address_of(self.repository.reference().repository(), &self.path);
        let answer = host.ask(&self.request(&scopes), &address, is_last).await?;
        self.check(answer).await
    }

    fn request<'a>(&self, scopes: &'a [String]) -> Request<'a> {
        let accept = text(&format!("{}, */*", self.remote.media_type));
        let mut request = Repository::request(Method::GET, scopes).header(header::ACCEPT, accept);
        // The digest is that of what is stored, not of what a proxy makes of it.
        request = request.header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if self.offset > 0 {
            request = request.header(header::RANGE, text(&format!("bytes={}-", self.offset)));
        }
        request
    }

    /// Whether an answer has what was asked for; how many bytes of it are there already.
    async fn check(&self, answer: Answer) -> Result<(Answer, u64), RegistryError> {
        match answer.status() {
            // From the beginning, though that was not asked for.
            StatusCode::OK => match answer.length().filter(|length| *length != self.remote.size) {
                Some(length) => Err(self.wrong_size(&answer, length)),
                None => Ok((answer, self.offset)),
            },
            StatusCode::PARTIAL_CONTENT => self.check_range(answer).map(|answer| (answer, 0)),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let total = answer
                    .header(header::CONTENT_RANGE)
                    .and_then(|range| range.strip_prefix("bytes */"));
                let total = total.and_then(|total| total.parse().ok()).unwrap_or(self.offset);
                Err(self.wrong_size(&answer, total))
            }
            _ => Err(answer.into_error().await),
        }
    }

    /// The part that was asked for.
    fn check_range(&self, answer: Answer) -> Result<Answer, RegistryError> {
        let range = answer.header(header::CONTENT_RANGE).unwrap_or_default();
        let (from, total) = match range
            .strip_prefix("bytes ")
            .and_then(|range| range.split_once('-'))
        {
            Some((from, rest)) => {
                (from.parse().ok(), rest.split_once('/').and_then(|(_, total)| total.parse().ok()))
            }
            // Who says nothing gives what was asked for.
            None if range.is_empty() => {
                let end = |length: u64| {
                    self.offset.checked_add(length).ok_or_else(|| RegistryError::Answer {
                            address: answer.address.to_string(),
                            problem: format!(
                                "its Content-Length is {length}, which no content has that follows byte {}",
                                self.offset
                            ),
                        })
                };
                (Some(self.offset), answer.length().map(end).transpose()?)
            }
            None => (None, None),
        };
        if from != Some(self.offset) {
            let address = answer.address.to_string();
            let problem = format!(
                "gives the range {range:?}, asked for was what follows byte {}",
                self.offset
            );
            return Err(RegistryError::Answer { address, problem });
        }
        match total {
            Some(total) if total != self.remote.size => Err(self.wrong_size(&answer, total)),
            _ => Ok(answer),
        }
    }

    fn wrong_size(&self, answer: &Answer, actual: u64) -> RegistryError {
        RegistryError::Size {
            blob: self.remote.digest.clone(),
            address: answer.address.to_string(),
            actual,
            expected: self.remote.size,
        }
    }
}
