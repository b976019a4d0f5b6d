//! Who asks a registry. Nothing is told before the registry wants to know it; then the caller is asked once, and tokens
//! are kept by what they are for.

mod challenge;
mod token;

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use challenge::Challenge;
use http::{HeaderMap, HeaderValue};
use token::{Realm, Token};
use tokio::{sync::Mutex, time::timeout};

use crate::{RegistryError, address::Address, transport::Transport};

/// How many tokens are kept of a host. A transfer has one or two.
const MAX_TOKENS: usize = 64;

/// Who somebody is to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// A name and a password.
    Password {
        /// Not empty.
        username: String,
        /// The password, or what a registry gave instead of one.
        secret: String,
    },
    /// A token for which the registry gives others.
    Refresh(String),
    /// The value of `Authorization`.
    Header(String),
}

/// Asks who the caller is to the host of this name and port; `None` if nobody.
pub type AskCredential = Arc<
    dyn Fn(String) -> Pin<Box<dyn Future<Output = Result<Option<Credential>, String>> + Send>>
        + Send
        + Sync,
>;

/// What one host was told, and told us.
pub(crate) struct Authorizer {
    ask: Option<AskCredential>,
    asked_for: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The caller's answer.
    credential: Option<Option<Credential>>,
    way: Way,
}

#[derive(Default)]
enum Way {
    /// The host has not asked.
    #[default]
    None,
    /// The same with every request.
    Fixed(HeaderValue),
    Tokens {
        realm: Realm,
        scopes: Vec<String>,
        tokens: HashMap<String, Token>,
    },
}

impl Authorizer {
    /// The caller has to answer within `asked_for`.
    pub(crate) fn new(ask: Option<AskCredential>, asked_for: Duration) -> Self {
        Self { ask, asked_for, state: Mutex::default() }
    }

    /// What a request for these scopes has to say, as far as is known.
    ///
    /// # Errors
    /// If nobody gives a token.
    pub(crate) async fn authorization(
        &self,
        transport: &Transport,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>, RegistryError> {
        // One request for a token at a time: others want the same one.
        let mut state = self.state.lock().await;
        match &mut state.way {
            Way::None => Ok(None),
            Way::Fixed(value) => Ok(Some(value.clone())),
            Way::Tokens { realm, scopes: wanted, tokens } => {
                let mut scopes: Vec<_> = scopes.iter().chain(wanted.iter()).cloned().collect();
                scopes.sort_unstable();
                scopes.dedup();
                let key = scopes.join(" ");
                if let Some(token) = tokens.get(&key).filter(|token| token.is_valid()) {
                    return Ok(Some(token.value.clone()));
                }
                let token = realm.token(transport, &scopes).await?;
                if tokens.len() >= MAX_TOKENS {
                    tokens.clear();
                }
                tokens.insert(key, token.clone());
                Ok(Some(token.value))
            }
        }
    }

    /// A host has refused a request that said `told`: learns what it wants.
    ///
    /// # Errors
    /// If that cannot be had.
    pub(crate) async fn refused(
        &self,
        host: &Address,
        headers: &HeaderMap,
        told: Option<&HeaderValue>,
    ) -> Result<(), RegistryError> {
        let problem = |problem: &str| RegistryError::Unauthorized {
            address: host.to_string(),
            problem: problem.to_owned(),
        };
        let mut state = self.state.lock().await;
        match &state.way {
            Way::Fixed(value) if told == Some(value) => {
                return Err(problem("the credentials are refused"));
            }
            // Another request has learnt it meanwhile.
            Way::Fixed(_) => return Ok(()),
            Way::Tokens { .. } if told.is_none() => return Ok(()),
            Way::Tokens { tokens, .. } => {
                let is_known = |token: &Token| Some(&token.value) == told;
                if !tokens.is_empty() && !tokens.values().any(is_known) {
                    return Ok(());
                }
            }
            Way::None => {}
        }
        let Some(challenge) = challenge::best(headers) else {
            return Err(problem("does not say how to authorize, by Basic or Bearer"));
        };
        let credential = self.credential(&mut state, host).await?;
        state.way = match (challenge, credential) {
            (_, Some(Credential::Header(value))) => {
                Way::Fixed(secret(&value).map_err(|wrong| problem(&wrong))?)
            }
            (Challenge::Basic, Some(Credential::Password { username, secret })) => {
                Way::Fixed(basic(&username, &secret))
            }
            (Challenge::Basic, _) => return Err(problem("no basic auth credentials")),
            (Challenge::Bearer { realm, service, scopes }, credential) => {
                let address = Address::parse(&realm);
                let address = address.map_err(|wrong| problem(&format!("its realm {wrong}")))?;
                let realm = Realm { address, service, credential };
                Way::Tokens { realm, scopes, tokens: HashMap::new() }
            }
        };
        Ok(())
    }

    /// Who the caller is; asked once.
    async fn credential(
        &self,
        state: &mut State,
        host: &Address,
    ) -> Result<Option<Credential>, RegistryError> {
        if let Some(known) = &state.credential {
            return Ok(known.clone());
        }
        let Some(ask) = &self.ask else { return Ok(None) };
        let host = host.authority.clone();
        let answer = timeout(self.asked_for, ask(host.clone())).await;
        let answer =
            answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.asked_for)));
        let credential = answer.map_err(|problem| RegistryError::Credentials { host, problem })?;
        state.credential = Some(credential.clone());
        Ok(credential)
    }
}

fn basic(username: &str, password: &str) -> HeaderValue {
    let encoded = BASE64_STANDARD.encode(format!("{username}:{password}"));
    let value = HeaderValue::try_from(format!("Basic {encoded}"));
    // Base64 can be sent always.
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| "the credentials cannot be sent in a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
