//! What a registry answers: its body in parts, bounded in time, or whole, bounded in size.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use tokio::time::timeout;

use crate::{
    RegistryError,
    address::Address,
    error::{Fault, shortened},
    transport::causes,
};

/// As much of an error's explanation is read.
const MAX_EXPLANATION: u64 = 64 << 10;

/// An answer whose body is not read yet.
pub(crate) struct Answer {
    pub(crate) method: Method,
    /// Who answered, after redirections.
    pub(crate) address: Address,
    response: Response<Incoming>,
    /// What was read of the body before somebody wanted it.
    ahead: Option<Bytes>,
    stalled_after: Duration,
}

/// What registries answer with an error, by the specification of distribution.
#[derive(Deserialize)]
struct Explanation {
    errors: Vec<ExplainedError>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct ExplainedError {
    code: String,
    message: String,
}

impl Answer {
    pub(crate) fn new(
        method: Method,
        address: Address,
        response: Response<Incoming>,
        stalled_after: Duration,
    ) -> Self {
        Self { method, address, response, ahead: None, stalled_after }
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// A header that has one value, if that is text.
    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// How many bytes the body has, if the registry says so.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header(header::CONTENT_LENGTH)?.parse().ok()
    }

    /// Waits for the first part of the body, which [`Answer::chunk`] gives then.
    ///
    /// # Errors
    /// As [`Answer::chunk`].
    pub(crate) async fn begin(&mut self) -> Result<(), RegistryError> {
        self.ahead = self.chunk().await?;
        Ok(())
    }

    /// The next part of the body; `None` at its end.
    ///
    /// # Errors
    /// If the connection breaks, or nothing comes in time.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, RegistryError> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        loop {
            let frame = timeout(self.stalled_after, self.response.body_mut().frame()).await;
            let address = || self.address.to_string();
            match frame {
                Err(_) => {
                    return Err(RegistryError::Stalled {
                        address: address(),
                        after: self.stalled_after,
                    });
                }
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    let (address, cause) = (address(), causes(&error));
                    return Err(RegistryError::Transport { address, cause, fault: Fault::Broken });
                }
                // Trailers say nothing here.
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
                    _ => {}
                },
            }
        }
    }

    /// All of the body.
    ///
    /// # Errors
    /// As [`Answer::chunk`]; that it is larger than `limit` bytes.
    pub(crate) async fn whole(mut self, what: &str, limit: u64) -> Result<Bytes, RegistryError> {
        let too_large = |address: &Address| RegistryError::TooLarge {
            what: what.to_owned(),
            address: address.to_string(),
            limit,
        };
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large(&self.address));
        }
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (whole.len() + chunk.len()) as u64 > limit {
                return Err(too_large(&self.address));
            }
            whole.extend_from_slice(&chunk);
        }
        Ok(whole.into())
    }

    /// The answer, if its status is one of these.
    ///
    /// # Errors
    /// [`RegistryError::Status`].
    pub(crate) async fn expect(self, statuses: &[StatusCode]) -> Result<Self, RegistryError> {
        if statuses.contains(&self.status()) { Ok(self) } else { Err(self.into_error().await) }
    }

    /// The answer as an error, with what the registry says about it.
    pub(crate) async fn into_error(self) -> RegistryError {
        let mut error = self.silent_error();
        // What cannot be read explains nothing.
        let text = self.whole("an error", MAX_EXPLANATION).await.unwrap_or_default();
        let explained = match serde_json::from_slice::<Explanation>(&text) {
            Ok(explanation) => {
                let said = |error: &ExplainedError| format!("{}: {}", error.code, error.message);
                explanation.errors.iter().map(said).collect::<Vec<_>>().join(", ")
            }
            // Pages for a browser are long.
            Err(_) if text.starts_with(b"<") => String::new(),
            Err(_) => String::from_utf8_lossy(&text).into_owned(),
        };
        if let RegistryError::Status { detail, .. } = &mut error {
            *detail = shortened(&explained);
        }
        error
    }

    /// The answer as an error, without a word of its body.
    pub(crate) fn silent_error(&self) -> RegistryError {
        RegistryError::Status {
            method: self.method.clone(),
            address: self.address.to_string(),
            status: self.status(),
            detail: String::new(),
            retry_after: retry_after(self.headers()),
        }
    }
}

/// When a host wants to be asked again.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let at = httpdate::parse_http_date(value).ok()?;
            // What has passed is no time to wait.
            Some(at.duration_since(SystemTime::now()).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::try_from(value).unwrap())])
    }

    #[test]
    fn a_host_says_when_to_come_back_in_seconds_or_by_date() {
        assert_eq!(retry_after(&header("7")), Some(Duration::from_secs(7)));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(20));
        let wait = retry_after(&header(&soon)).unwrap();
        assert!(wait > Duration::from_secs(10) && wait <= Duration::from_secs(20));
        assert_eq!(retry_after(&header("Thu, 01 Jan 1970 00:00:00 GMT")), Some(Duration::ZERO));
        for wrong in ["", "-1", "soon"] {
            assert_eq!(retry_after(&header(wrong)), None, "{wrong}");
        }
    }
}
