//! `WWW-Authenticate`: how a registry wants to know who asks.

use http::{HeaderMap, header::WWW_AUTHENTICATE};

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token, which somebody gives at an address.
    Bearer { realm: String, service: String, scopes: Vec<String> },
}

/// The best of the challenges that can be met: tokens before passwords.
pub(super) fn best(headers: &HeaderMap) -> Option<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    let challenges: Vec<_> = values.filter_map(|value| parse(value.to_str().ok()?)).collect();
    let is_bearer = |challenge: &&Challenge| matches!(challenge, Challenge::Bearer { .. });
    challenges.iter().find(is_bearer).or_else(|| challenges.first()).cloned()
}

fn parse(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim_start().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scopes) = (None, String::new(), Vec::new());
    while let Some((key, value, after)) = parameter(rest) {
        match key.to_ascii_lowercase().as_str() {
            "realm" => realm = Some(value),
            "service" => service = value,
            "scope" => {
                scopes = value
                    .split(' ')
                    .filter(|scope| !scope.is_empty())
                    .map(ToOwned::to_owned)
                    .collect();
            }
            _ => {}
        }
        rest = after;
    }
    Some(Challenge::Bearer { realm: realm?, service, scopes })
}

/// The first `key="value"` or `key=value`, and what follows it.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let (key, text) = text.trim_start_matches([' ', '\t', ',']).split_once('=')?;
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return Some((key.trim(), text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((key.trim(), value, &quoted[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            _ => value.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (WWW_AUTHENTICATE, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn tokens_come_before_passwords() {
        let bearer = r#"bearer realm="https://auth.example/token?a=\"b\"",service=registry.example, scope="repository:a:pull repository:b:pull" ,error="invalid_token""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token?a=\"b\"".to_owned(),
            service: "registry.example".to_owned(),
            scopes: vec!["repository:a:pull".to_owned(), "repository:b:pull".to_owned()],
        };
        assert_eq!(best(&headers(&["Basic realm=\"x\"", bearer])), Some(expected));
        assert_eq!(
            best(&headers(&["Digest realm=x", "BASIC realm=\"x\""])),
            Some(Challenge::Basic)
        );
    }

    #[test]
    fn what_cannot_be_met_is_no_challenge() {
        for wrong in [
            "",
            "Digest realm=\"x\"",
            "Bearer",
            "Bearer service=\"x\"",
            "Bearer realm=\"x",
            "Negotiate",
        ] {
            assert_eq!(best(&headers(&[wrong])), None, "{wrong}");
        }
        assert_eq!(best(&HeaderMap::new()), None);
    }
}
