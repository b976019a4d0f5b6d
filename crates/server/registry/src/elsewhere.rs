//! Content at addresses outside of a registry: layers that a registry may not, or does not want to, give to others.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use http::{HeaderMap, Method, StatusCode};
use rustls::ClientConfig;

use crate::{
    Limits, RegistryError,
    address::Address,
    answer::Answer,
    host::Request,
    payload::Content,
    transport::{Means, Question, Transport, Whom},
};

/// How many addresses are tried of one part of an image, and the longest one in bytes.
const MAX_ADDRESSES: usize = 16;
const MAX_LENGTH: usize = 4096;

/// Asks whoever an image names. They are told nothing but what is wanted.
pub(crate) struct Elsewhere {
    means: Means,
    tls: Arc<ClientConfig>,
    limits: Limits,
}

impl Elsewhere {
    pub(crate) fn new(means: Means, tls: Arc<ClientConfig>, limits: Limits) -> Self {
        Self { means, tls, limits }
    }

    /// The addresses of a part of an image.
    pub(crate) fn addresses(&self, urls: &[String]) -> Addresses {
        let unasked = addresses(urls).into();
        Addresses { unasked, broken: VecDeque::new(), patience: self.limits.answer }
    }

    /// Asks an address once, and waits for the first byte of content.
    ///
    /// # Errors
    /// If no content comes. What is said instead is not shown: whoever made the image chose who says it.
    pub(crate) async fn ask(
        &self,
        request: Request<'_>,
        address: Address,
    ) -> Result<Answer, RegistryError> {
        let (tls, means) = (Arc::clone(&self.tls), self.means.clone());
        let transport = Transport::new(address.clone(), means, tls, false, None, self.limits);
        let question = Question {
            whom: Whom::Other,
            method: Method::GET,
            address,
            headers: request.headers,
            secret: HeaderMap::new(),
            content: Content::None,
        };
        let mut answer = transport.ask(&question).await?;
        match answer.status() {
            StatusCode::OK | StatusCode::PARTIAL_CONTENT => answer.begin().await?,
            // Says how long the content is.
            StatusCode::RANGE_NOT_SATISFIABLE => {}
            _ => return Err(answer.silent_error()),
        }
        Ok(answer)
    }
}

/// The addresses of one part of an image that are worth asking.
pub(crate) struct Addresses {
    unasked: VecDeque<Address>,
    /// Gave some bytes before they broke off.
    broken: VecDeque<Address>,
    /// How long they may be waited for, all together.
    patience: Duration,
}

impl Addresses {
    /// The next one that was not asked yet, or that broke off, and how long it may take to begin: its share of what they have
    /// all together. Somebody else is asked for the rest before one that broke off.
    pub(crate) fn take(&mut self, is_broken: bool) -> Option<(Address, Duration)> {
        let addresses = if is_broken { &mut self.broken } else { &mut self.unasked };
        let within = self.patience.checked_div(u32::try_from(addresses.len()).ok()?)?;
        if within.is_zero() { None } else { Some((addresses.pop_front()?, within)) }
    }

    /// Notes that one was waited for in vain.
    pub(crate) fn waited(&mut self, so_long: Duration) {
        self.patience = self.patience.saturating_sub(so_long);
    }

    /// Notes that one broke off after some bytes.
    pub(crate) fn broke_off(&mut self, address: Address) {
        self.broken.push_back(address);
    }
}

/// The addresses of a part of an image. Those of other schemes than http and https are passed over, as by containerd, and so are
/// those with a user, the ones that are too long, and more than there should be.
fn addresses(urls: &[String]) -> Vec<Address> {
    let mut addresses = Vec::new();
    for url in urls.iter().filter(|url| url.len() <= MAX_LENGTH) {
        // What lies behind it is for a browser.
        match Address::parse(url.split('#').next().unwrap_or_default()) {
            Ok(_) if addresses.len() == MAX_ADDRESSES => break,
            Ok(address) => addresses.push(address),
            Err(problem) => tracing::debug!(problem, "an address of content is passed over"),
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_bounded_and_of_http() {
        let urls = |list: &[&str]| {
            let list: Vec<_> = list.iter().map(|url| (*url).to_owned()).collect();
            addresses(&list).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let long = format!("https://h.example/{}", "x".repeat(MAX_LENGTH));
        let wrong = ["ftp://h/x", "file:///etc/passwd", "", "https://ann:secret@h/x", "/x", &long];
        assert!(urls(&wrong).is_empty());
        assert_eq!(urls(&["ftp://h/x", "https://h/x?y#z"]), ["https://h/x"]);
        assert_eq!(urls(&["http://h"; MAX_ADDRESSES + 1]).len(), MAX_ADDRESSES);
    }
}
