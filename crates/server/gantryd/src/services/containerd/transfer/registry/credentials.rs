//! Who the caller is to a registry: asked on a stream that the caller has opened for that.

use std::sync::Arc;

use gantry_api::containerd::{
    from_any, to_any,
    types::transfer::{AuthRequest, AuthResponse, AuthType},
};
use gantry_registry::{AskCredential, Credential};
use tokio::sync::Mutex;

use crate::services::containerd::streaming::ClientStream;

/// Asks on this stream. An answer that comes too late would be taken for that to the next question: nothing more is asked
/// then.
pub(super) fn over(stream: ClientStream, reference: &str) -> AskCredential {
    let stream = Arc::new(Mutex::new(Some(stream)));
    let reference = reference.to_owned();
    Arc::new(move |host| {
        let (stream, reference) = (Arc::clone(&stream), reference.clone());
        Box::pin(async move {
            let mut place = stream.lock().await;
            let Some(mut stream) = place.take() else {
                return Err("the caller did not answer before".to_owned());
            };
            let question = AuthRequest { host, reference, wwwauthenticate: Vec::new() };
            let sent = stream.send(to_any(&question)).await;
            sent.map_err(|status| status.message().to_owned())?;
            let answer = stream.next().await.map_err(|status| status.message().to_owned())?;
            let answer = answer.ok_or("the caller closed the stream for them")?;
            *place = Some(stream);
            let answer = from_any::<AuthResponse>(&answer).map_err(|error| error.to_string())?;
            credential(answer.ok_or("the caller's answer is no AuthResponse")?)
        })
    })
}

fn credential(answer: AuthResponse) -> Result<Option<Credential>, String> {
    let auth_type = answer.auth_type();
    let AuthResponse { secret, username, .. } = answer;
    Ok(match auth_type {
        AuthType::None => None,
        // Who has no secret has none to tell.
        _ if secret.is_empty() => None,
        AuthType::Credentials if !username.is_empty() => {
            Some(Credential::Password { username, secret })
        }
        AuthType::Credentials | AuthType::Refresh => Some(Credential::Refresh(secret)),
        AuthType::Header => Some(Credential::Header(secret)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(auth_type: AuthType, username: &str, secret: &str) -> Option<Credential> {
        let (username, secret) = (username.to_owned(), secret.to_owned());
        let answer =
            AuthResponse { auth_type: auth_type.into(), username, secret, ..Default::default() };
        credential(answer).unwrap()
    }

    #[test]
    fn an_answer_is_a_password_a_token_a_header_or_nothing() {
        let secret = || "s".to_owned();
        let password = Credential::Password { username: "u".to_owned(), secret: secret() };
        assert!(answered(AuthType::Credentials, "u", "s") == Some(password));
        assert!(answered(AuthType::Credentials, "", "s") == Some(Credential::Refresh(secret())));
        assert!(answered(AuthType::Refresh, "", "s") == Some(Credential::Refresh(secret())));
        assert!(answered(AuthType::Header, "", "s") == Some(Credential::Header(secret())));
        assert!(answered(AuthType::None, "u", "s").is_none());
        assert!(answered(AuthType::Refresh, "", "").is_none());
    }
}
