//! A registry as the source or destination of images.

mod credentials;
mod source_label;

use std::path::PathBuf;

use gantry_api::containerd::types::transfer::{HttpDebug, OciRegistry, RegistryResolver};
use gantry_domain::Namespace;
use gantry_images::Descriptor;
use gantry_registry::{AskCredential, Reference, Remote, Repository, Scheme, Settings};
use http::{HeaderMap, HeaderName, HeaderValue};
pub(super) use source_label::SourceLabel;
use tonic::Status;

use super::Call;
use crate::services::containerd::{
    status::{invalid, of_registry},
    streaming::{ClientStream, Streams},
};

/// How many headers a request may want to be sent.
const MAX_HEADERS: usize = 64;

/// A registry, as a request has it.
pub(super) struct Registry {
    reference: Reference,
    /// As the request has it.
    name: String,
    host_dir: Option<PathBuf>,
    default_scheme: Option<Scheme>,
    headers: HeaderMap,
    credential: Option<AskCredential>,
    /// For what is said to the registry, which nobody writes here. Closed with the call.
    _log: Option<ClientStream>,
}

impl Registry {
    /// # Errors
    /// INVALID_ARGUMENT, naming the field; that there is no such stream.
    pub(super) fn new(
        message: OciRegistry,
        namespace: &Namespace,
        streams: &Streams,
    ) -> Result<Self, Status> {
        let OciRegistry { reference: name, resolver } = message;
        let reference = Reference::parse(&name).map_err(of_registry)?;
        let resolver = resolver.unwrap_or_default();
        if resolver.http_debug() != HttpDebug::Disabled {
            tracing::info!(reference = name, "what is said to a registry is not shown");
        }
        let RegistryResolver {
            auth_stream, headers, host_dir, default_scheme, logs_stream, ..
        } = resolver;
        let default_scheme = match &*default_scheme {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            other => {
                let field = "resolver.default_scheme";
                return Err(invalid(
                    field,
                    format!("{field}: {other:?} is neither http nor https"),
                ));
            }
        };
        let stream = |id: &str| (!id.is_empty()).then(|| streams.take(namespace, id)).transpose();
        let credential = stream(&auth_stream)?.map(|stream| credentials::over(stream, &name));
        Ok(Self {
            reference,
            host_dir: host_directory(host_dir)?,
            default_scheme,
            headers: header_map(headers)?,
            credential,
            _log: stream(&logs_stream)?,
            name,
        })
    }

    /// As it is called in progress messages.
    pub(super) fn shown(&self) -> String {
        format!("OCI Registry ({})", self.name)
    }

    /// What its images are called in the messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Opens its repository.
    pub(super) async fn open(&self, call: &Call) -> Result<Repository, Status> {
        let registries = call.surface.registries().await?;
        let settings = Settings {
            host_dir: self.host_dir.clone(),
            default_scheme: self.default_scheme,
            headers: self.headers.clone(),
            credential: self.credential.clone(),
        };
        registries.open(self.reference.clone(), settings).await.map_err(of_registry)
    }
}

/// Content as a registry knows it.
pub(super) fn remote(descriptor: &Descriptor) -> Remote {
    let Descriptor { media_type, digest, size, urls, .. } = descriptor.clone();
    Remote { media_type, digest, size, urls }
}

fn host_directory(path: String) -> Result<Option<PathBuf>, Status> {
    let path = PathBuf::from(path);
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    if !path.is_absolute() {
        let field = "resolver.host_dir";
        let shown = path.display();
        return Err(invalid(field, format!("{field}: {shown} must be an absolute path")));
    }
    Ok(Some(path))
}

fn header_map<K: AsRef<str>>(
    headers: impl IntoIterator<Item = (K, String)>,
) -> Result<HeaderMap, Status> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let field = format!("resolver.headers.{}", name.as_ref());
        let wrong = |problem: &str| invalid(&field, format!("{field}: {problem}"));
        if map.len() >= MAX_HEADERS {
            return Err(wrong(&format!(
                "is one header too many, at most {MAX_HEADERS} are allowed"
            )));
        }
        let name =
            HeaderName::try_from(name.as_ref()).map_err(|_| wrong("is no name of a header"))?;
        let mut value =
            HeaderValue::try_from(value).map_err(|_| wrong("cannot be sent in a header"))?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_in_a_request_is_named() {
        let namespace = Namespace::named("n").unwrap();
        let refused = |resolver: RegistryResolver, reference: &str| {
            let message = OciRegistry { reference: reference.to_owned(), resolver: Some(resolver) };
            let refused = Registry::new(message, &namespace, &Streams::default());
            refused.err().unwrap().message().to_owned()
        };
        let resolver = RegistryResolver::default;
        let header = |name: &str, value: &str| RegistryResolver {
            headers: [(name.to_owned(), value.to_owned())].into(),
            ..resolver()
        };
        assert!(refused(resolver(), "a").starts_with("reference \"a\" has no host"));
        for (wrong, field) in [
            (RegistryResolver { default_scheme: "ftp".to_owned(), ..resolver() }, "default_scheme"),
            (RegistryResolver { host_dir: "certs.d".to_owned(), ..resolver() }, "host_dir"),
            (header("a b", "c"), "headers.a b"),
            (header("a", "b\nc"), "headers.a"),
        ] {
            let message = refused(wrong, "h.example/a:t");
            assert!(message.starts_with(&format!("resolver.{field}: ")), "{message}");
        }
        let stream = RegistryResolver { auth_stream: "x".to_owned(), ..resolver() };
        assert_eq!(refused(stream, "h.example/a:t"), "stream \"x\": not found");
    }
}
