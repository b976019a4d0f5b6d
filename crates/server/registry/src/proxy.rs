//! Which proxy is asked to reach an address, as the environment says it: Go's `http.ProxyFromEnvironment`, whose rules
//! containerd has.

use std::{env, net::IpAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use percent_encoding::percent_decode_str;

use crate::{address::Address, reference::split_port};

/// Proxies for http and https, and for whom there is none. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Proxies(Arc<Rules>);

#[derive(Debug, Default)]
struct Rules {
    http: Option<Proxy>,
    https: Option<Proxy>,
    direct: Vec<Direct>,
}

/// A proxy that speaks HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) address: Address,
    /// Who asks, as `Proxy-Authorization` has it.
    pub(crate) authorization: Option<HeaderValue>,
}

/// Whom no proxy is asked for.
#[derive(Debug, PartialEq, Eq)]
enum Direct {
    Everybody,
    Network(IpAddr, u8),
    Ip(IpAddr, Option<u16>),
    /// A name with a dot before it, of which all names are that end with it; whether it is meant without the dot, too.
    Domain(String, bool, Option<u16>),
}

impl Proxies {
    /// What the environment says: `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`, or the same in lower case. What is no address of a
    /// proxy is told in the log, and left out.
    #[must_use]
    pub fn from_environment() -> Self {
        let find = |name: &str| {
            let values = [name.to_owned(), name.to_ascii_lowercase()].into_iter().map(env::var);
            values.flatten().find(|value| !value.is_empty()).unwrap_or_default()
        };
        Self::new(&find("HTTP_PROXY"), &find("HTTPS_PROXY"), &find("NO_PROXY"))
    }

    /// The same from the values of these variables; empty means that there is none.
    #[must_use]
    pub fn new(http: &str, https: &str, no: &str) -> Self {
        let parse = |variable: &'static str, text: &str| {
            let proxy = Proxy::parse(text).transpose()?;
            // The value can have a password in it.
            proxy
                .inspect_err(|problem| tracing::warn!(variable, problem, "a proxy is left out"))
                .ok()
        };
        Self(Arc::new(Rules {
            http: parse("HTTP_PROXY", http),
            https: parse("HTTPS_PROXY", https),
            direct: no.split(',').filter_map(Direct::parse).collect(),
        }))
    }

    /// The proxy to ask for an address; never for this machine's own.
    pub(crate) fn of(&self, address: &Uri) -> Option<&Proxy> {
        let is_https = address.scheme_str() == Some("https");
        let proxy = if is_https { &self.0.https } else { &self.0.http }.as_ref()?;
        let host = address.host()?.trim_start_matches('[').trim_end_matches(']');
        let port = address.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let host = host.to_ascii_lowercase();
        let ip: Option<IpAddr> = host.parse().ok().map(|ip: IpAddr| ip.to_canonical());
        let is_own = host == "localhost" || ip.is_some_and(|ip| ip.is_loopback());
        let is_direct = is_own || self.0.direct.iter().any(|direct| direct.is(&host, ip, port));
        (!is_direct).then_some(proxy)
    }
}

impl Proxy {
    /// `None` if there is none.
    fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let scheme = scheme.to_ascii_lowercase();
        if !["http", "https"].contains(&scheme.as_str()) {
            return Err(format!("its scheme is {scheme}, which is neither http nor https"));
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (user, host) = match rest[..end].rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, &rest[..end]),
        };
        if split_port(host).1.is_some_and(|port| port.parse::<u16>().is_err()) {
            return Err("its port is no number up to 65535".to_owned());
        }
        let address = Address::parse(&format!("{scheme}://{host}"))?;
        let authorization = user.map(basic).transpose()?;
        Ok(Some(Self { address, authorization }))
    }
}

/// `USER:PASSWORD`, whose parts are encoded with percents, as a header.
fn basic(user: &str) -> Result<HeaderValue, String> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let mut pair: Vec<u8> = percent_decode_str(name).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(password));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(pair)))
        .map_err(|error| error.to_string())?;
    value.set_sensitive(true);
    Ok(value)
}

impl Direct {
    /// One entry of `NO_PROXY`; `None` if it means nothing.
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::Everybody);
        }
        if let Some((network, length)) = entry.split_once('/')
            && let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u8>())
            && length <= bits(network).1
        {
            // Addresses of IPv4 that are written as ones of IPv6 have 96 bits more.
            return Some(match (network.to_canonical(), length.checked_sub(96)) {
                (mapped @ IpAddr::V4(_), Some(length)) if network.is_ipv6() => {
                    Self::Network(mapped, length)
                }
                _ => Self::Network(network, length),
            });
        }
        if let Ok(ip) = entry.parse::<IpAddr>() {
            return Some(Self::Ip(ip.to_canonical(), None));
        }
        let (host, port) = split_port(&entry);
        // What is no port matches none, and an empty one all.
        let port = port.filter(|port| !port.is_empty()).map(|port| port.parse().unwrap_or(0));
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(Self::Ip(ip.to_canonical(), port));
        }
        let domain = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        match domain.strip_prefix('.') {
            _ if domain.is_empty() => None,
            Some(_) => Some(Self::Domain(domain.to_owned(), false, port)),
            None => Some(Self::Domain(format!(".{domain}"), true, port)),
        }
    }

    fn is(&self, host: &str, ip: Option<IpAddr>, port: u16) -> bool {
        match (self, ip) {
            (Self::Everybody, _) => true,
            (Self::Network(network, length), Some(ip)) => {
                let ((of, width), (asked, asked_width)) = (bits(*network), bits(ip));
                // No bit is compared of a network of length 0.
                let differ = (of ^ asked).checked_shr(u32::from(width - length)).unwrap_or(0);
                width == asked_width && differ == 0
            }
            (Self::Ip(own, of), Some(ip)) => *own == ip && of.is_none_or(|of| of == port),
            (Self::Domain(domain, is_itself, of), None) => {
                let is_meant =
                    host.ends_with(domain.as_str()) || (*is_itself && host == &domain[1..]);
                is_meant && of.is_none_or(|of| of == port)
            }
            _ => false,
        }
    }
}

/// An address as a number, and how many bits such a number has.
fn bits(ip: IpAddr) -> (u128, u8) {
    match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_asked(no: &str, address: &str) -> bool {
        let proxies = Proxies::new("http://p:1", "http://p:2", no);
        proxies.of(&address.parse().unwrap()).is_some()
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let proxies = Proxies::new("p.example:1", "https://p.example", "");
        let of = |address: &str| proxies.of(&address.parse().unwrap()).unwrap().address.to_string();
        assert_eq!(of("http://h.example/x"), "http://p.example:1");
        assert_eq!(of("https://h.example/x"), "https://p.example");
        assert_eq!(Proxy::parse("HTTP://p:3128"), Proxy::parse("http://p:3128"));
        assert!(Proxies::new("p", "", "").of(&"https://h".parse().unwrap()).is_none());
        assert!(Proxies::new("", "p", "").of(&"http://h".parse().unwrap()).is_none());
    }

    #[test]
    fn this_machine_is_asked_without_a_proxy() {
        for own in ["localhost", "LOCALHOST:5000", "127.0.0.1", "127.9.0.1:80", "[::1]:443"] {
            assert!(!is_asked("", &format!("https://{own}/")), "{own}");
        }
        assert!(is_asked("", "https://localhost.example/"));
        assert!(is_asked("", "https://128.0.0.1/"));
    }

    #[test]
    fn who_is_asked_without_a_proxy_is_gos() {
        for (no, direct, proxied) in [
            ("*", "a.example", ""),
            ("x, *", "a.example", ""),
            ("example", "example a.example a.example:5000 EXAMPLE", "xexample example.com"),
            (".example", "a.example a.b.example", "example"),
            ("*.example", "a.example", "example"),
            ("h.example:5000", "h.example:5000 a.h.example:5000", "h.example h.example:5001"),
            ("h.example:443", "h.example h.example:443", "h.example:80"),
            (" A.example ,, b.example", "a.example b.example", "c.example"),
            ("10.1.2.3", "10.1.2.3 10.1.2.3:5000", "10.1.2.4"),
            ("10.1.2.3:", "10.1.2.3 10.1.2.3:5000", "10.1.2.4"),
            ("h.example:", "h.example h.example:5000", "i.example"),
            ("h.example:x", "", "h.example"),
            ("::ffff:10.0.0.0/104", "10.1.2.3 [::ffff:10.1.2.3]", "11.1.2.3 [2001:db8::1]"),
            ("::ffff:10.0.0.0/80", "", "10.1.2.3"),
            ("10.1.2.3:443", "10.1.2.3", "10.1.2.3:5000"),
            ("10.1.0.0/16", "10.1.2.3 10.1.255.255:5000", "10.2.0.0 10.1.example"),
            ("10.1.2.3/0", "1.2.3.4", "[2001:db8::1] h.example"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("10.1.2.3/33", "", "10.1.2.3"),
            ("2001:db8::1", "[2001:db8::1] [2001:db8::1]:5000", "[2001:db8::2]"),
            ("[2001:db8::1]:5000", "[2001:db8::1]:5000", "[2001:db8::1]"),
            ("2001:db8::/32", "[2001:db8:1::1]", "[2001:db9::1] 32.1.13.184"),
            ("::/0", "[2001:db8:1::1]", "1.2.3.4"),
            (":80", "", "h.example"),
        ] {
            for host in direct.split_whitespace() {
                assert!(!is_asked(no, &format!("https://{host}/")), "{no:?}: {host}");
            }
            for host in proxied.split_whitespace() {
                assert!(is_asked(no, &format!("https://{host}/")), "{no:?}: {host}");
            }
        }
    }

    #[test]
    fn a_proxy_can_have_a_user() {
        let proxy = Proxy::parse("http://ann:p%40ss%3aw%2frd@p.example:3128/x").unwrap().unwrap();
        assert_eq!(proxy.address.to_string(), "http://p.example:3128");
        let told = proxy.authorization.unwrap();
        assert_eq!(told, format!("Basic {}", BASE64_STANDARD.encode("ann:p@ss:w/rd")));
        assert!(told.is_sensitive());
        let alone = Proxy::parse("ann@p.example").unwrap().unwrap().authorization.unwrap();
        assert_eq!(alone, format!("Basic {}", BASE64_STANDARD.encode("ann:")));
        for wrong in ["socks5://p", "http://", "http://a b", "http://p:x"] {
            let problem = Proxy::parse(wrong).unwrap_err();
            assert!(!problem.contains("a b"), "{problem}");
        }
    }
}
