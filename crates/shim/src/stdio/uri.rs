//! Where output goes, as the caller names it: a path, or a URI as containerd accepts it.
//!
//! URIs are parsed as by Go's net/url, since clients in Go write them (pkg/cio of containerd). But what Go
//! silently ignores is refused here: a host, and malformed parts of a query.

use std::collections::BTreeMap;
use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A place for output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// What is there already; an empty path stands for /dev/null.
    Path(PathBuf),
    /// A file, which is made if it is missing.
    File(PathBuf),
    /// A program that reads the output.
    Program(Program),
}

/// A program that reads output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its path and its arguments.
    pub(crate) argv: Vec<CString>,
    /// It is ready when it has written a byte, and not by closing the ready pipe alone.
    pub(crate) says_ready: bool,
}

impl Target {
    /// An error says what is wrong with a URI, in words that follow the URI and a colon.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = split_scheme(text) else {
            return Ok(Self::Path(text.into()));
        };
        if text.bytes().any(|byte| byte.is_ascii_control()) {
            return Err("it has a control character".to_owned());
        }
        let scheme = scheme.to_ascii_lowercase();
        let rest = rest.split('#').next().unwrap_or_default();
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme.as_str() {
            "fifo" => Ok(Self::Path(absolute(path)?)),
            "file" => Ok(Self::File(absolute(path)?)),
            "binary" | "binary-v2" => {
                let program = absolute(path)?.into_os_string();
                let argv = std::iter::once(program.into_vec()).chain(arguments(query)?);
                let argv = argv.map(CString::new).collect::<Result<_, _>>();
                let argv = argv.map_err(|_| "it has a zero byte".to_owned())?;
                Ok(Self::Program(Program { argv, says_ready: scheme == "binary-v2" }))
            }
            _ => Err(format!("unknown scheme {scheme:?}: not fifo, file, binary or binary-v2")),
        }
    }
}

/// The scheme of what is a URI, see RFC 3986, section 3.1; a path has none.
fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once(':')?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    is_scheme.then_some((scheme, rest))
}

fn absolute(path: &str) -> Result<PathBuf, String> {
    let path = match path.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some("") => return Err("it has no path".to_owned()),
        Some(_) => return Err("its path begins with a third slash, as it names no host".to_owned()),
        None if path.starts_with('/') => path,
        None => return Err("its path is not absolute".to_owned()),
    };
    Ok(OsString::from_vec(decode(path)?).into())
}

/// Keys, each with its first value, in the order of the keys: containerd leaves the order to chance.
fn arguments(query: &str) -> Result<impl Iterator<Item = Vec<u8>>, String> {
    let mut arguments = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        if pair.contains(';') {
            return Err("its query has a semicolon, which is written %3B".to_owned());
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| decode(&text.replace('+', " "));
        let (key, value) = (plain(key)?, plain(value)?);
        arguments.entry(key).or_insert(value);
    }
    Ok(arguments.into_iter().flat_map(|(key, value)| [key, value]))
}

/// A percent sign with two digits stands for a byte, RFC 3986, section 2.1.
fn decode(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let value =
                    digit().zip(digit()).and_then(|(high, low)| (high * 16 + low).try_into().ok());
                value.ok_or("a percent sign has no two hexadecimal digits behind it")?
            }
            byte => byte,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    fn program(text: &str) -> Vec<String> {
        match Target::parse(text) {
            Ok(Target::Program(program)) => {
                program.argv.into_iter().map(|text| text.into_string().unwrap()).collect()
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_has_no_scheme_is_a_path() {
        for text in ["", "/", "/a%20b", "/a:b", "/binary://x", "relative", "./a:b", "1a:b"] {
            assert_eq!(Target::parse(text), Ok(Target::Path(text.into())));
        }
    }

    #[test]
    fn schemes() {
        for (text, target) in [
            ("fifo:///a/b", Target::Path("/a/b".into())),
            ("file:///a/b", Target::File("/a/b".into())),
            ("FILE:///a", Target::File("/a".into())),
            ("file:/a", Target::File("/a".into())),
            ("file:////a", Target::File("//a".into())),
            ("file:///a%20b+c d%3Fe%25", Target::File("/a b+c d?e%".into())),
            ("file:///a?b=c#d", Target::File("/a".into())),
            ("file:///\u{fc}%C3%BC", Target::File("/\u{fc}\u{fc}".into())),
        ] {
            assert_eq!(Target::parse(text), Ok(target), "{text}");
        }
    }

    #[test]
    fn programs_and_their_arguments() {
        for (text, argv) in [
            ("binary:///x", &["/x"][..]),
            ("binary:///x?", &["/x"]),
            ("binary:///x%20y?a=b", &["/x y", "a", "b"]),
            ("binary:///x?b=2&a=1&b=3", &["/x", "a", "1", "b", "2"]),
            ("binary:///x?alone", &["/x", "alone", ""]),
            ("binary:///x?&a=b=c&", &["/x", "a", "b=c"]),
            ("binary:///x?=v", &["/x", "", "v"]),
            ("binary:///x?a+b=%2Fc%26+d", &["/x", "a b", "/c& d"]),
            ("binary:///x?a=b#c", &["/x", "a", "b"]),
        ] {
            assert_eq!(program(text), argv, "{text}");
        }
        let says_ready = |text| match Target::parse(text) {
            Ok(Target::Program(program)) => program.says_ready,
            other => panic!("{other:?}"),
        };
        assert!(says_ready("binary-v2:///x") && !says_ready("binary:///x"));
    }

    #[test]
    fn what_is_refused() {
        for (text, why) in [
            ("ftp:///a", "unknown scheme \"ftp\""),
            ("npipe:////./pipe/x", "unknown scheme"),
            ("file://host/a", "no host"),
            ("file://", "no path"),
            ("file:", "not absolute"),
            ("file:a", "not absolute"),
            ("binary:?a=b", "not absolute"),
            ("file:///%", "two hexadecimal digits"),
            ("file:///%2", "two hexadecimal digits"),
            ("file:///%+1", "two hexadecimal digits"),
            ("binary:///x?a=%zz", "two hexadecimal digits"),
            ("binary:///x?a;b", "semicolon"),
            ("binary:///x?a=%00", "zero byte"),
            ("binary:///x%00", "zero byte"),
            ("file:///a\nb", "control character"),
        ] {
            let refused = Target::parse(text).unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    fn encode(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "([a-z]{0,3}|file|binary|fifo):?/{0,3}\\PC*") {
            let _ = Target::parse(&text);
        }

        #[test]
        fn every_path_can_be_written(path in proptest::collection::vec(1_u8.., 0..50)) {
            let path = [b"/", &path[..]].concat();
            let text = format!("file:///{}", encode(&path[1..]));
            let expected = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
            prop_assert_eq!(Target::parse(&text), Ok(Target::File(expected)));
        }

        #[test]
        fn every_argument_can_be_written(
            arguments in proptest::collection::btree_map(
                proptest::collection::vec(1_u8.., 1..9), proptest::collection::vec(1_u8.., 0..9), 0..9
            )
        ) {
            let pairs = arguments.iter().map(|(key, value)| [encode(key), encode(value)].join("="));
            let text = format!("binary:///x?{}", pairs.collect::<Vec<_>>().join("&"));
            let expected: Vec<CString> = std::iter::once(b"/x".to_vec())
                .chain(arguments.into_iter().flat_map(|(key, value)| [key, value]))
                .map(|bytes| CString::new(bytes).unwrap())
                .collect();
            let expected = Program { argv: expected, says_ready: false };
            prop_assert_eq!(Target::parse(&text), Ok(Target::Program(expected)));
        }
    }
}
