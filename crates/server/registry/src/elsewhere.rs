//! Content at addresses outside of a registry: layers that a registry may not, or does not want to, give to others.

use std::sync::Arc;

use http::{HeaderMap, Method};
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

    /// Asks an address once.
    ///
    /// # Errors
    /// If no answer comes.
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
        transport.ask(&question).await
    }
}

/// The addresses of a part of an image. Those of other schemes than http and https are passed over, as by containerd, and so are
/// those with a user, the ones that are too long, and more than there should be.
pub(crate) fn addresses(urls: &[String]) -> Vec<Address> {
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
