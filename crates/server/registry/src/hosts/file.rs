//! `hosts.toml`, as containerd's users have it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use toml::{Table, Value};

use super::{Capabilities, Given, duration};
use crate::address::Address;

/// How many hosts may be configured for one registry: each of them can be asked for every blob.
const MAX_HOSTS: usize = 32;

/// How many certificates a host may have, and how many headers.
const MAX_VALUES: usize = 64;

/// What can be said of a host; at the top of the file, of the server itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Section {
    capabilities: Vec<String>,
    ca: Option<Value>,
    client: Option<Value>,
    skip_verify: Option<bool>,
    header: Table,
    override_path: bool,
    dial_timeout: String,
}

/// The hosts of a file in their order, the server last. Keys that are not known are left to later versions.
///
/// # Errors
/// What is wrong, naming the key.
pub(super) fn parse(text: &str, directory: &Path) -> Result<Vec<Given>, String> {
    let file: Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    let mut hosts = Vec::new();
    if let Some(host) = file.get("host") {
        let sections =
            host.as_table().ok_or("host: must be a table, as [host.\"https://mirror\"]")?;
        if sections.len() > MAX_HOSTS {
            return Err(format!(
                "host: has {} hosts, at most {MAX_HOSTS} are allowed",
                sections.len()
            ));
        }
        for (server, section) in sections {
            let said = given(server, section.clone(), directory);
            hosts.push(said.map_err(|problem| format!("host.\"{server}\".{problem}"))?);
        }
    }
    let server = match file.get("server") {
        Some(server) => server.as_str().ok_or("server: must be a string")?.to_owned(),
        None => String::new(),
    };
    hosts.push(given(&server, Value::Table(file), directory)?);
    Ok(hosts)
}

fn given(server: &str, section: Value, directory: &Path) -> Result<Given, String> {
    let section: Section =
        section.try_into().map_err(|error: toml::de::Error| error.to_string())?;
    let address = if server.is_empty() {
        None
    } else {
        let parsed = address_of(server, section.override_path);
        Some(parsed.map_err(|problem| format!("server: {server:?} {problem}"))?)
    };
    let dial_timeout = match section.dial_timeout.as_str() {
        "" => None,
        text => Some(duration::parse(text).map_err(|problem| format!("dial_timeout: {problem}"))?),
    };
    Ok(Given {
        address,
        capabilities: capabilities(&section.capabilities)?,
        ca: section.ca.map_or(Ok(Vec::new()), |ca| paths(&ca, "ca", directory))?,
        client: section.client.map_or(Ok(Vec::new()), |pairs| client_pairs(&pairs, directory))?,
        skip_verify: section.skip_verify,
        headers: headers(&section.header)?,
        dial_timeout: dial_timeout.map(|timeout| timeout.max(Duration::from_millis(1))),
    })
}

/// An address of an API, which ends in `/v2` unless the user says that the path is right as it is.
fn address_of(server: &str, is_whole: bool) -> Result<Address, String> {
    let text =
        if server.starts_with("http") { server.to_owned() } else { format!("https://{server}") };
    let mut address = Address::parse(&text)?;
    let path = address.path.trim_end_matches('/');
    let is_api = path.ends_with("/v2") || is_whole;
    address.path = if is_api { path.to_owned() } else { format!("{path}/v2") };
    address.query = None;
    Ok(address)
}

fn capabilities(names: &[String]) -> Result<Capabilities, String> {
    if names.is_empty() {
        return Ok(Capabilities::ALL);
    }
    let mut given = Capabilities { pull: false, resolve: false, push: false };
    for name in names {
        match name.to_lowercase().as_str() {
            "pull" => given.pull = true,
            "resolve" => given.resolve = true,
            "push" => given.push = true,
            // Nothing here asks for referrers.
            "referrers" => {}
            _ => return Err(format!("capabilities: unknown capability {name:?}")),
        }
    }
    Ok(given)
}

/// A path, or a list of them.
fn paths(value: &Value, key: &str, directory: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = || format!("{key}: must be a path or a list of paths");
    match value {
        Value::String(path) => Ok(vec![directory.join(path)]),
        Value::Array(paths) if paths.len() <= MAX_VALUES => {
            let path =
                |path: &Value| path.as_str().map(|path| directory.join(path)).ok_or_else(wrong);
            paths.iter().map(path).collect()
        }
        _ => Err(wrong()),
    }
}

/// A file with certificate and key, a list of those, or a list of pairs of a certificate and its key.
fn client_pairs(
    value: &Value,
    directory: &Path,
) -> Result<Vec<(PathBuf, Option<PathBuf>)>, String> {
    let Value::Array(pairs) = value else {
        return Ok(paths(value, "client", directory)?
            .into_iter()
            .map(|path| (path, None))
            .collect());
    };
    if pairs.len() > MAX_VALUES {
        return Err(format!("client: has {} pairs, at most {MAX_VALUES} are allowed", pairs.len()));
    }
    let pair = |pair: &Value| match (pair, &paths(pair, "client", directory)?[..]) {
        (Value::String(_), [both]) => Ok((both.clone(), None)),
        (_, [certificate, key]) => Ok((certificate.clone(), Some(key.clone()))),
        _ => Err(format!("client: {pair} is no pair of a certificate and its key")),
    };
    pairs.iter().map(pair).collect()
}

fn headers(given: &Table) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    if given.len() > MAX_VALUES {
        return Err(format!("header: has {} names, at most {MAX_VALUES} are allowed", given.len()));
    }
    for (key, value) in given {
        let wrong = |problem: &str| format!("header.{key}: {problem}");
        let name = HeaderName::try_from(key).map_err(|_| wrong("is no name of a header"))?;
        let values = match value {
            Value::Array(values) if values.len() <= MAX_VALUES => values.as_slice(),
            Value::String(_) => std::slice::from_ref(value),
            _ => return Err(wrong("must be a string or a list of strings")),
        };
        for value in values {
            let text =
                value.as_str().ok_or_else(|| wrong("must be a string or a list of strings"))?;
            let value =
                HeaderValue::try_from(text).map_err(|_| wrong("cannot be sent in a header"))?;
            if headers.len() >= MAX_VALUES {
                return Err(wrong(&format!(
                    "is one header too many, at most {MAX_VALUES} are allowed"
                )));
            }
            headers.try_append(name.clone(), value).map_err(|_| wrong("is one header too many"))?;
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_at(text: &str) -> Result<Vec<Given>, String> {
        parse(text, Path::new("/etc/hosts.d/h"))
    }

    #[test]
    fn hosts_are_in_the_order_of_the_file_and_the_server_is_last() {
        let text = r#"
            server = "https://registry.example"
            dial_timeout = "1.5s"
            [host."http://z.example:5000"]
            capabilities = ["pull"]
            [host."http://z.example:5000".header]
            X-One = "1"
            X-Two = ["2", "3"]
            [host."a.example/mirror"]
            capabilities = ["pull", "Resolve"]
            ca = "ca.pem"
            skip_verify = true
            [host."https://m.example/whole"]
            override_path = true
            client = [["cert.pem", "/key.pem"], "both.pem"]
        "#;
        let hosts = parse_at(text).unwrap();
        let addresses: Vec<_> =
            hosts.iter().map(|host| host.address.as_ref().unwrap().to_string()).collect();
        assert_eq!(
            addresses,
            [
                "http://z.example:5000/v2",
                "https://a.example/mirror/v2",
                "https://m.example/whole",
                "https://registry.example/v2",
            ]
        );
        assert_eq!(hosts[0].capabilities, Capabilities { pull: true, resolve: false, push: false });
        assert_eq!(hosts[0].headers.get_all("x-two").iter().count(), 2);
        assert_eq!(hosts[1].capabilities, Capabilities { pull: true, resolve: true, push: false });
        assert_eq!(hosts[1].ca, [Path::new("/etc/hosts.d/h/ca.pem")]);
        assert_eq!(hosts[1].skip_verify, Some(true));
        let certificate = PathBuf::from("/etc/hosts.d/h/cert.pem");
        assert_eq!(hosts[2].client[0], (certificate, Some("/key.pem".into())));
        assert_eq!(hosts[2].client[1], ("/etc/hosts.d/h/both.pem".into(), None));
        assert_eq!(hosts[3].capabilities, Capabilities::ALL);
        assert_eq!(hosts[3].dial_timeout, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn a_file_without_a_server_leaves_the_address_to_the_registry() {
        let hosts = parse_at("skip_verify = true").unwrap();
        assert!(hosts[0].address.is_none() && hosts[0].skip_verify == Some(true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, key) in [
            ("server = 1", "server:"),
            ("server = \"https://\"", "server:"),
            ("capabilities = [\"fly\"]", "capabilities:"),
            ("ca = 1", "ca:"),
            ("client = [[\"a\"]]", "client:"),
            ("client = [\"a\", 1]", "client:"),
            ("dial_timeout = \"soon\"", "dial_timeout:"),
            ("host = 1", "host:"),
            ("[header]\n\"a b\" = \"1\"", "header.a b:"),
            ("[header]\na = 1", "header.a:"),
            ("[host.\"https://m\"]\ncapabilities = [\"fly\"]", "host.\"https://m\".capabilities:"),
            ("= ", "TOML parse error"),
        ] {
            let problem = parse_at(text).unwrap_err();
            assert!(problem.starts_with(key), "{text}: {problem}");
        }
        let many: String = (0..100).map(|n| format!("[host.\"https://m{n}\"]\n")).collect();
        assert!(parse_at(&many).unwrap_err().contains("at most 32"));
        let headers = |count: usize| {
            let lines: String = (0..count).map(|n| format!("x-{n} = \"1\"\n")).collect();
            format!("[header]\n{lines}")
        };
        assert_eq!(parse_at(&headers(64)).unwrap()[0].headers.len(), 64);
        let problem = parse_at(&headers(30_000)).unwrap_err();
        assert_eq!(problem, "header: has 30000 names, at most 64 are allowed");
        let problem = parse_at(&format!("{}\nx-more = [\"1\", \"2\"]", headers(63))).unwrap_err();
        assert_eq!(problem, "header.x-more: is one header too many, at most 64 are allowed");
    }
}
