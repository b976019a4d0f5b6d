//! One host of a registry: asked again while it is busy, told who asks once it wants to know.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::{
    Limits, RegistryError,
    address::Address,
    answer::Answer,
    auth::Authorizer,
    error::is_temporary,
    hosts::Capabilities,
    payload::Content,
    transport::{Question, Transport, Whom},
};

/// How often a host may ask who asks, for one request: once, and once again if a token was too old.
const MAX_REFUSALS: usize = 2;

/// A host that can be asked.
pub(crate) struct Host {
    /// Of its API.
    pub(crate) address: Address,
    /// Which registry it stands for, if it is another one.
    pub(crate) stands_for: Option<String>,
    pub(crate) capabilities: Capabilities,
    /// What is said to it in each request.
    pub(crate) headers: HeaderMap,
    pub(crate) transport: Transport,
    pub(crate) authorizer: Authorizer,
    pub(crate) limits: Limits,
}

/// A request to whichever host.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Content<'a>,
    /// What a token has to allow.
    pub(crate) scopes: &'a [String],
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: Method, scopes: &'a [String]) -> Self {
        Self { method, headers: HeaderMap::new(), content: Content::None, scopes }
    }

    pub(crate) fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }
}

impl Host {
    /// Where something of a repository is.
    pub(crate) fn address_of(&self, repository: &str, what: &str) -> Address {
        let mut address = self.address.clone();
        address.path = format!("{}/{repository}/{what}", address.path);
        self.told(address)
    }

    /// An address with the name of the registry that this host stands for.
    pub(crate) fn told(&self, address: Address) -> Address {
        match &self.stands_for {
            Some(registry) => address.with_query("ns", registry),
            None => address,
        }
    }

    /// Asks, again and again while the host is busy if there is nobody else to ask.
    ///
    /// # Errors
    /// If no answer comes, or only that the host is busy. Other answers are for the caller to judge.
    pub(crate) async fn ask(
        &self,
        request: &Request<'_>,
        address: &Address,
        is_last: bool,
    ) -> Result<Answer, RegistryError> {
        let mut attempts = 0;
        loop {
            let error = match self.ask_once(request, address).await {
                Ok(answer) if is_temporary(answer.status()) => answer.into_error().await,
                Err(error) if error.is_temporary() => error,
                answer => return answer,
            };
            attempts += 1;
            let pause = self.limits.pause(attempts, error.retry_after());
            let Some(pause) = pause.filter(|_| is_last) else { return Err(error) };
            tracing::info!(%error, ?pause, "a registry is asked again");
            tokio::time::sleep(pause).await;
        }
    }

    /// Asks without saying who asks.
    ///
    /// # Errors
    /// If no answer comes.
    pub(crate) async fn ask_stranger(
        &self,
        request: Request<'_>,
        address: Address,
    ) -> Result<Answer, RegistryError> {
        let Request { method, headers, content, .. } = request;
        let (whom, secret) = (Whom::Other, HeaderMap::new());
        let question = Question { whom, method, address, headers, secret, content };
        self.transport.ask(&question).await
    }

    /// Asks, and says who asks if the host wants to know.
    pub(crate) async fn ask_once(
        &self,
        request: &Request<'_>,
        address: &Address,
    ) -> Result<Answer, RegistryError> {
        let mut refusals = 0;
        loop {
            let told = self.authorizer.authorization(&self.transport, request.scopes).await?;
            let mut secret = self.headers.clone();
            if let Some(told) = &told {
                let inserted = secret.try_insert(header::AUTHORIZATION, told.clone());
                inserted.map_err(|_| RegistryError::Header {
                    name: header::AUTHORIZATION.to_string(),
                })?;
            }
            let question = Question {
                whom: Whom::Home,
                method: request.method.clone(),
                address: address.clone(),
                headers: request.headers.clone(),
                secret,
                content: request.content.clone(),
            };
            let answer = self.transport.ask(&question).await?;
            // Another host that it leads to has to know already, and so has whoever answers by http instead.
            let is_refused = answer.status() == StatusCode::UNAUTHORIZED
                && self.transport.is_home(&answer.address);
            refusals += 1;
            if !is_refused || refusals > MAX_REFUSALS {
                return Ok(answer);
            }
            self.authorizer.refused(&self.address, answer.headers(), told.as_ref()).await?;
        }
    }
}

impl Limits {
    /// How long to wait after so many attempts that brought nothing: as long as the host says, else twice as long after
    /// each, a little less or more than others. `None` if it is not worth waiting.
    pub(crate) fn pause(&self, attempts: u32, retry_after: Option<Duration>) -> Option<Duration> {
        if attempts > self.retries {
            return None;
        }
        if retry_after.is_some() {
            return retry_after.filter(|wait| *wait <= self.longest_pause);
        }
        let doubled = self.first_pause.saturating_mul(1 << attempts.saturating_sub(1).min(16));
        Some(doubled.min(self.longest_pause).mul_f64(0.75 + fastrand::f64() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let limits = Limits { retries: 100, ..Limits::default() };
        let pause = |attempts| limits.pause(attempts, None).unwrap();
        let (first, third, last) = (pause(1), pause(3), pause(100));
        assert!(
            first >= limits.first_pause.mul_f64(0.7) && first <= limits.first_pause.mul_f64(1.3)
        );
        assert!(third >= limits.first_pause.mul_f64(2.8));
        assert!(
            last >= limits.longest_pause.mul_f64(0.7) && last <= limits.longest_pause.mul_f64(1.3)
        );
        assert_eq!(limits.pause(101, None), None);
    }

    #[test]
    fn a_host_says_how_long_to_wait_unless_that_is_too_long() {
        let limits = Limits::default();
        let said = |seconds| limits.pause(1, Some(Duration::from_secs(seconds)));
        assert_eq!(said(7), Some(Duration::from_secs(7)));
        assert_eq!(said(3600), None);
    }
}
