//! The table `[otlp]` of the configuration file, and its flags: whether and where telemetry is sent.

use std::{collections::BTreeMap, fmt, time::Duration};

use http::{HeaderName, HeaderValue, Uri};
use serde::Deserialize;
use toml::{Table, Value};

use super::{ConfigError, duration, value};

const MAX_HEADERS: usize = 32;
const MAX_ATTRIBUTES: usize = 64;

/// Metrics are read and sent on threads that have other work.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// What was given, by file or by flag, before defaults.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Given {
    pub(super) endpoint: Option<String>,
    pub(super) sampling: Option<f64>,
    pub(super) interval: Option<String>,
    container_usage: Option<bool>,
    /// Of any type, so that an error about one does not quote it.
    headers: Table,
    attributes: BTreeMap<String, String>,
}

impl Given {
    /// Flags have precedence over the file.
    pub(super) fn or(self, file: Self) -> Self {
        Self {
            endpoint: self.endpoint.or(file.endpoint),
            sampling: self.sampling.or(file.sampling),
            interval: self.interval.or(file.interval),
            container_usage: self.container_usage.or(file.container_usage),
            headers: if self.headers.is_empty() { file.headers } else { self.headers },
            attributes: if self.attributes.is_empty() { file.attributes } else { self.attributes },
        }
    }

    pub(super) fn config(self) -> Result<Otlp, ConfigError> {
        if self.attributes.len() > MAX_ATTRIBUTES {
            return Err(value("otlp.attributes", format!("must be {MAX_ATTRIBUTES} at most")));
        }
        Ok(Otlp {
            endpoint: self
                .endpoint
                .as_deref()
                .filter(|url| !url.is_empty())
                .map(endpoint)
                .transpose()?,
            sampling: sampling(self.sampling)?,
            interval: interval(self.interval)?,
            container_usage: self.container_usage.unwrap_or(false),
            headers: headers(self.headers)?,
            attributes: self.attributes,
        })
    }
}

/// Telemetry by the protocol OTLP, over gRPC.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Otlp {
    /// The collector. Without one, nothing is sent.
    pub(crate) endpoint: Option<Uri>,
    /// The part of the traces that is sent, 0 to 1, of those whose caller has not decided that.
    pub(crate) sampling: f64,
    /// Between two exports of metrics.
    pub(crate) interval: Duration,
    /// Each export of metrics has what each container uses.
    pub(crate) container_usage: bool,
    /// Of every export.
    pub(crate) headers: Headers,
    /// Of the resource, beside its own.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// Metadata for the collector. The values may be secrets: none is ever shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Headers(pub(crate) Vec<(HeaderName, HeaderValue)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

fn endpoint(url: &str) -> Result<Uri, ConfigError> {
    let uri: Option<Uri> = url.parse().ok();
    let is_one = |uri: &Uri| {
        let has_path = uri.path_and_query().is_some_and(|path| path.as_str() != "/");
        let host = uri.host().filter(|host| !host.is_empty());
        // A user name would be in the authority, and so in the log.
        let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
        uri.scheme_str() == Some("http")
            && host.is_some()
            && uri.port_u16().is_some()
            && !has_path
            && !has_user
    };
    uri.filter(is_one).ok_or_else(|| {
        // The text may have a password.
        value("otlp.endpoint", "must be http://HOST:PORT, without a path".to_owned())
    })
}

fn sampling(given: Option<f64>) -> Result<f64, ConfigError> {
    let ratio = given.unwrap_or(1.0);
    match (0.0..=1.0).contains(&ratio) {
        true => Ok(ratio),
        false => Err(value("otlp.sampling", format!("must be 0 to 1, is {ratio}"))),
    }
}

fn interval(given: Option<String>) -> Result<Duration, ConfigError> {
    match duration("otlp.interval", given, "60s")? {
        interval if interval < SHORTEST_INTERVAL => {
            Err(value("otlp.interval", "must be 100ms at least".to_owned()))
        }
        interval => Ok(interval),
    }
}

fn headers(given: Table) -> Result<Headers, ConfigError> {
    let wrong = |problem: String| Err(value("otlp.headers", problem));
    if given.len() > MAX_HEADERS {
        return wrong(format!("must be {MAX_HEADERS} at most"));
    }
    let mut headers = Vec::new();
    for (name, content) in given {
        // A binary header's value would have to be encoded.
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let parsed = parsed.filter(|name| !name.as_str().ends_with("-bin") && !is_grpcs(name));
        let Some(parsed) = parsed else {
            return wrong(format!("{name:?} is not a name for a header"));
        };
        let content = match content {
            Value::String(text) => HeaderValue::from_str(&text).ok(),
            _ => None,
        };
        let Some(mut content) = content.filter(|content| content.to_str().is_ok()) else {
            return wrong(format!("the value of {name:?} must be a string of visible ASCII"));
        };
        // Keeps it out of what HTTP/2 remembers of headers, too.
        content.set_sensitive(true);
        headers.push((parsed, content));
    }
    Ok(Headers(headers))
}

/// Headers that a gRPC client sets itself.
fn is_grpcs(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "te" | "content-type" | "host" | "user-agent" | "connection")
        || name.starts_with("grpc-")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::{Config, tests::parse};

    fn with(text: &str, flags: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        parse(&format!("gantryd --config {}{flags}", file.path().display()))
    }

    #[test]
    fn nothing_is_sent_by_default() {
        let otlp = parse("gantryd").unwrap().otlp;
        assert_eq!((otlp.endpoint, otlp.sampling, otlp.container_usage), (None, 1.0, false));
        assert_eq!(otlp.interval, Duration::from_secs(60));
        assert_eq!(with("[otlp]\nendpoint = \"\"", "").unwrap().otlp.endpoint, None);
    }

    #[test]
    fn flags_override_the_table() {
        let table = "[otlp]\nendpoint = \"http://[::1]:4317\"\nsampling = 0.5\ninterval = \"5s\"\n\
                     container_usage = true\n\
                     attributes = { \"a.b\" = \"c\" }\nheaders = { x-key = \"secret\" }\n";
        let otlp = with(table, " --otlp-endpoint http://host:1 --otlp-sampling 0").unwrap().otlp;
        assert_eq!(otlp.endpoint.unwrap(), "http://host:1");
        assert_eq!((otlp.sampling, otlp.interval), (0.0, Duration::from_secs(5)));
        assert!(otlp.container_usage);
        assert_eq!(otlp.attributes["a.b"], "c");
        assert_eq!(format!("{:?}", otlp.headers), "[\"x-key\"]");
        let wire = &otlp.headers.0[0].1;
        assert!(wire.is_sensitive() && wire == "secret");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_secret_shown() {
        for (text, named) in [
            ("endpoint = \"127.0.0.1:4317\"", "otlp.endpoint"),
            ("endpoint = \"unix:///run/s\"", "otlp.endpoint"),
            ("endpoint = \"http://localhost\"", "otlp.endpoint"),
            ("endpoint = \"http://h:4318/v1/traces\"", "otlp.endpoint"),
            ("endpoint = \"http://user:SECRET@h:4317\"", "otlp.endpoint"),
            ("sampling = 1.5", "otlp.sampling"),
            ("sampling = nan", "otlp.sampling"),
            ("interval = \"5\"", "otlp.interval"),
            ("interval = \"99ms\"", "otlp.interval"),
            ("interval = \"0s\"", "otlp.interval"),
            ("headers = { \"a b\" = \"SECRET\" }", "a b"),
            ("headers = { \"grpc-timeout\" = \"SECRET\" }", "grpc-timeout"),
            ("headers = { a = [\"SECRET\"] }", "\"a\""),
            ("headers = { a = \"SECRET\\n\" }", "\"a\""),
            ("header = {}", "header"),
        ] {
            let error = with(&format!("[otlp]\n{text}\n"), "").unwrap_err().to_string();
            assert!(error.contains(named) && !error.contains("SECRET"), "{text}: {error}");
        }
    }
}
