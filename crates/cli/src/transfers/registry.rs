//! Registries, and who this command's user is to them.

use std::{
    io::{self, Read},
    path::PathBuf,
};

use clap::Args;
use gantry_api::containerd::{
    from_any, to_any,
    types::transfer::{AuthRequest, AuthResponse, AuthType, OciRegistry, RegistryResolver},
};
use gantry_client::Client;

use super::Stream;
use crate::failure::Failure;

/// Longest password.
const LONGEST: u64 = 64 << 10;

/// How a registry is reached.
#[derive(Debug, Args)]
pub(crate) struct RegistryOptions {
    /// Use HTTP without encryption
    #[arg(long)]
    plain_http: bool,
    /// Who you are to the registry
    ///
    /// All users of this machine can see a PASSWORD here, as they see command lines: --password-stdin hides it.
    #[arg(short, long, value_name = "USER[:PASSWORD]")]
    user: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "user")]
    password_stdin: bool,
    /// Directory with hosts.toml files for registries, on the server [default: the server's]
    #[arg(long, value_name = "DIR")]
    hosts_dir: Option<PathBuf>,
}

/// A user's name and password.
pub(crate) struct Credentials {
    user: String,
    password: String,
}

impl RegistryOptions {
    /// The credentials that options name, if any.
    pub(crate) fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let Some(text) = &self.user else { return Ok(None) };
        let (user, given) = match text.split_once(':') {
            Some((user, password)) => (user, Some(password.to_owned())),
            None => (text.as_str(), None),
        };
        let password = match given {
            Some(password) => password,
            None if self.password_stdin => read_password()?,
            None => return Err(Failure::new("no password: see --password-stdin")),
        };
        Ok(Some(Credentials { user: user.to_owned(), password }))
    }

    /// The registry of a reference; `auth` is the stream on which it may ask who we are.
    pub(crate) fn registry(&self, reference: &str, auth: Option<&Stream>) -> OciRegistry {
        let hosts_dir = self.hosts_dir.as_ref().map(|dir| dir.to_string_lossy().into_owned());
        let resolver = RegistryResolver {
            auth_stream: auth.map(|stream| stream.id().to_owned()).unwrap_or_default(),
            host_dir: hosts_dir.unwrap_or_default(),
            default_scheme: if self.plain_http { "http".to_owned() } else { String::new() },
            ..RegistryResolver::default()
        };
        OciRegistry { reference: reference.to_owned(), resolver: Some(resolver) }
    }
}

fn read_password() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    read.map_err(|e| Failure::io("read the password", &e))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// The stream that these credentials are asked for on, if there are any.
pub(crate) async fn auth_stream(
    client: &Client,
    namespace: &str,
    credentials: Option<&Credentials>,
) -> Result<Option<Stream>, Failure> {
    match credentials {
        Some(_) => Stream::open(client, namespace).await.map(Some),
        None => Ok(None),
    }
}

/// Tells the registry of a reference, and no other host, who we are, as often as it is asked.
pub(crate) async fn answer(
    stream: Option<Stream>,
    credentials: Option<Credentials>,
    reference: &str,
) -> Result<(), Failure> {
    let (Some(mut stream), Some(credentials)) = (stream, credentials) else { return Ok(()) };
    while let Some(message) = stream.next().await {
        let Ok(Some(AuthRequest { host, .. })) = from_any(&message) else { continue };
        let answer = match is_of(&host, reference) {
            true => AuthResponse {
                auth_type: AuthType::Credentials.into(),
                username: credentials.user.clone(),
                secret: credentials.password.clone(),
                ..AuthResponse::default()
            },
            // A mirror has users of its own.
            false => AuthResponse::default(),
        };
        if !stream.send(to_any(&answer)).await {
            break;
        }
    }
    Ok(())
}

/// Whether a host is that of a reference in full. Docker's own has several names.
fn is_of(host: &str, reference: &str) -> bool {
    let own = reference.split('/').next().unwrap_or_default();
    host == own
        || (own == "docker.io" && ["registry-1.docker.io", "index.docker.io"].contains(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_one_registry() {
        assert!(is_of("localhost:5000", "localhost:5000/a:1"));
        assert!(is_of("registry-1.docker.io", "docker.io/library/a:1"));
        assert!(!is_of("mirror.local", "docker.io/library/a:1"));
        assert!(!is_of("localhost", "localhost:5000/a:1"));
    }
}
