//! Tokens of a registry, by distribution's specification: a POST of OAuth with credentials, else a GET.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use super::{Credential, basic};
use crate::{
    RegistryError,
    address::{Address, encoded},
    payload::Content,
    transport::{Question, Transport, Whom, header_of},
};

/// The largest answer with a token.
const MAX_ANSWER: u64 = 1 << 20;

/// As which program tokens are asked for; containerd's clients are known to registries.
const CLIENT_ID: &str = "containerd-client";

/// Who gives tokens, and for what.
pub(super) struct Realm {
    pub(super) address: Address,
    pub(super) service: String,
    pub(super) credential: Option<Credential>,
}

/// What a host lets in.
#[derive(Clone)]
pub(super) struct Token {
    pub(super) value: HeaderValue,
    /// `None` if nobody said.
    until: Option<Instant>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenAnswer {
    token: String,
    access_token: String,
    expires_in: i64,
}

impl Token {
    pub(super) fn is_valid(&self) -> bool {
        self.until.is_none_or(|until| until > Instant::now())
    }
}

impl Realm {
    /// A token for all of these scopes.
    ///
    /// # Errors
    /// If nobody gives one.
    pub(super) async fn token(
        &self,
        transport: &Transport,
        scopes: &[String],
    ) -> Result<Token, RegistryError> {
        let Some(credential) = &self.credential else {
            return self.get(transport, scopes, None).await;
        };
        let (form, password) = match credential {
            Credential::Password { username, secret } => (
                format!(
                    "grant_type=password&username={}&password={}",
                    encoded(username),
                    encoded(secret)
                ),
                Some(basic(username, secret)),
            ),
            Credential::Refresh(secret) => {
                (format!("grant_type=refresh_token&refresh_token={}", encoded(secret)), None)
            }
            // Is sent as it is, see above.
            Credential::Header(_) => return self.get(transport, scopes, None).await,
        };
        match self.post(transport, scopes, &form).await {
            // Not every registry knows the newer way.
            Err(RegistryError::Status { status, .. })
                if matches!(status.as_u16(), 400 | 401 | 404 | 405) =>
            {
                self.get(transport, scopes, password).await
            }
            token => token,
        }
    }

    async fn post(
        &self,
        transport: &Transport,
        scopes: &[String],
        grant: &str,
    ) -> Result<Token, RegistryError> {
        let scope = encoded(&scopes.join(" "));
        let service = encoded(&self.service);
        let form = format!("{grant}&service={service}&client_id={CLIENT_ID}&scope={scope}");
        let kind = HeaderValue::from_static("application/x-www-form-urlencoded");
        let question = Question {
            whom: Whom::Other,
            method: Method::POST,
            address: self.address.clone(),
            headers: header_of(header::CONTENT_TYPE, kind),
            secret: HeaderMap::new(),
            content: Content::Secret(Bytes::from(form)),
        };
        self.ask(transport, &question).await
    }

    async fn get(
        &self,
        transport: &Transport,
        scopes: &[String],
        password: Option<HeaderValue>,
    ) -> Result<Token, RegistryError> {
        let mut address = self.address.clone();
        if !self.service.is_empty() {
            address = address.with_query("service", &self.service);
        }
        for scope in scopes {
            address = address.with_query("scope", scope);
        }
        let secret = password.map(|password| header_of(header::AUTHORIZATION, password));
        let question = Question {
            whom: Whom::Other,
            method: Method::GET,
            address,
            headers: HeaderMap::new(),
            secret: secret.unwrap_or_default(),
            content: Content::None,
        };
        self.ask(transport, &question).await
    }

    async fn ask(
        &self,
        transport: &Transport,
        question: &Question<'_>,
    ) -> Result<Token, RegistryError> {
        let answer = transport.ask(question).await?.expect(&[StatusCode::OK]).await?;
        let asked_at = Instant::now();
        let address = answer.address.to_string();
        let wrong = |problem: String| RegistryError::Answer { address: address.clone(), problem };
        let text = answer.whole("a token", MAX_ANSWER).await?;
        // Its text is secret.
        let answer: TokenAnswer = serde_json::from_slice(&text).map_err(|error| {
            wrong(format!("gave no token: {:?} at column {}", error.classify(), error.column()))
        })?;
        let token = if answer.access_token.is_empty() { answer.token } else { answer.access_token };
        if token.is_empty() {
            return Err(wrong("gave no token".to_owned()));
        }
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| wrong("gave a token that cannot be sent".to_owned()))?;
        value.set_sensitive(true);
        let lasts = u64::try_from(answer.expires_in).ok().filter(|seconds| *seconds > 0);
        let until = lasts.and_then(|seconds| asked_at.checked_add(Duration::from_secs(seconds)));
        Ok(Token { value, until })
    }
}
