//! Addresses, and what a `Location` says of them. `http::Uri` parses; nothing here needs more of the URL standard.

use std::fmt;

use http::Uri;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What stays as it is in the value of a query.
const IN_QUERY: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/').remove(b':');

/// An absolute address of HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) is_https: bool,
    /// The host, with its port if that is given.
    pub(crate) authority: String,
    /// Begins with a slash, or is empty.
    pub(crate) path: String,
    pub(crate) query: Option<String>,
}

impl Address {
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.parse().map_err(|error| format!("is no address: {error}"))?;
        let is_https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("is no address of http or https".to_owned()),
        };
        let authority = uri.authority().filter(|authority| !authority.host().is_empty());
        let authority = authority.ok_or("has no host")?.as_str();
        if authority.contains('@') {
            return Err("names a user".to_owned());
        }
        let has_path = !uri.path().is_empty() && uri.path() != "/";
        let is_root = text.ends_with('/');
        Ok(Self {
            is_https,
            authority: authority.to_ascii_lowercase(),
            path: if has_path || is_root { uri.path().to_owned() } else { String::new() },
            query: uri.query().map(ToOwned::to_owned),
        })
    }

    /// Where a `Location` leads from here.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn follow(&self, location: &str) -> Result<Self, String> {
        // What lies behind it is for a browser.
        let location = location.split('#').next().unwrap_or_default();
        let base = format!("{}://{}", self.scheme(), self.authority);
        if location.contains("://") {
            return Self::parse(location);
        }
        if location.starts_with("//") {
            return Self::parse(&format!("{}:{location}", self.scheme()));
        }
        if location.starts_with('/') {
            return Self::parse(&format!("{base}{location}"));
        }
        if location.starts_with('?') {
            return Self::parse(&format!("{base}{}{location}", self.path));
        }
        let directory = self.path.rsplit_once('/').map_or("", |(directory, _)| directory);
        Self::parse(&format!("{base}{directory}/{location}"))
    }

    /// With one more parameter.
    pub(crate) fn with_query(mut self, key: &str, value: &str) -> Self {
        let pair = format!("{key}={}", encoded(value));
        self.query = Some(match self.query {
            Some(query) if !query.is_empty() => format!("{query}&{pair}"),
            _ => pair,
        });
        self
    }

    /// The same with http.
    pub(crate) fn plain(&self) -> Self {
        Self { is_https: false, ..self.clone() }
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.is_https { "https" } else { "http" }
    }

    /// Whether what is meant for one may be told to the other.
    pub(crate) fn is_same_host(&self, other: &Self) -> bool {
        self.is_https == other.is_https && self.authority == other.authority
    }

    /// # Errors
    /// If that is no address.
    pub(crate) fn uri(&self) -> Result<Uri, http::Error> {
        let path = if self.path.is_empty() { "/" } else { &self.path };
        let path = match &self.query {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        Uri::builder()
            .scheme(self.scheme())
            .authority(self.authority.as_str())
            .path_and_query(path)
            .build()
    }
}

/// As it is shown: without the query, which can hold a signature or token.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority, self.path)
    }
}

/// A value as it stands in a query or a form.
pub(crate) fn encoded(value: &str) -> String {
    utf8_percent_encode(value, IN_QUERY).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_leads_where_the_standard_says() {
        let from = Address::parse("https://h.example:5000/v2/a/blobs/uploads/1?state=x").unwrap();
        for (location, to, query) in [
            ("http://other.example/x?y=1", "http://other.example/x", Some("y=1")),
            ("//other.example/x#f", "https://other.example/x", None),
            ("/x/y?z=%2F", "https://h.example:5000/x/y", Some("z=%2F")),
            ("2?s", "https://h.example:5000/v2/a/blobs/uploads/2", Some("s")),
            ("?s=2", "https://h.example:5000/v2/a/blobs/uploads/1", Some("s=2")),
        ] {
            let address = from.follow(location).unwrap();
            assert_eq!((address.to_string().as_str(), address.query.as_deref()), (to, query));
        }
        for wrong in ["ftp://a/b", "http://", "http://user:secret@a/b", "https://a b/"] {
            assert!(from.follow(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_query_is_encoded_and_never_shown() {
        let address = Address::parse("https://h/v2/")
            .unwrap()
            .with_query("digest", "sha256:0a")
            .with_query("from", "a&b=c d");
        assert_eq!(address.query.as_deref(), Some("digest=sha256:0a&from=a%26b%3Dc%20d"));
        assert_eq!(address.to_string(), "https://h/v2/");
        assert_eq!(
            address.uri().unwrap().to_string(),
            "https://h/v2/?digest=sha256:0a&from=a%26b%3Dc%20d"
        );
    }

    #[test]
    fn hosts_are_the_same_with_scheme_name_and_port() {
        let one = Address::parse("https://H.example/a").unwrap();
        assert!(one.is_same_host(&Address::parse("https://h.example/b").unwrap()));
        for other in ["http://h.example/a", "https://h.example:444/a", "https://x.h.example/a"] {
            assert!(!one.is_same_host(&Address::parse(other).unwrap()), "{other}");
        }
    }
}
