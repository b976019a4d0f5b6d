//! Namespaces: containers of one do not meet those of another, whatever their ids.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Longest name in bytes, as containerd has it.
const MAX_LENGTH: usize = 76;

/// Precedes names in records and paths. Names do not contain it, so none is taken for the namespace of `types.API`.
const MARK: char = '@';

/// The namespace of `types.API` in records and paths.
const TYPES_API: &str = "types";

/// Part of every key, and of every path and record that the server makes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Kind);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Kind {
    TypesApi,
    /// With its mark.
    Named(Arc<str>),
}

/// Why a string is not the name of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum InvalidNamespace {
    #[error("must not be empty")]
    Empty,
    #[error("is {0} bytes long, at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
    #[error("must not contain {0:?}: allowed are A-Z a-z 0-9 . _ -")]
    Character(char),
    #[error("must have a letter or digit before and after each . _ -")]
    Separator,
}

impl Namespace {
    /// Where the containers of `types.API` live, which knows no namespaces.
    pub const TYPES_API: Self = Self(Kind::TypesApi);

    /// A namespace that callers name: `[A-Za-z0-9]+([._-][A-Za-z0-9]+)*`, as containerd has it.
    ///
    /// # Errors
    /// If that is not a name.
    pub fn named(name: &str) -> Result<Self, InvalidNamespace> {
        if name.is_empty() {
            return Err(InvalidNamespace::Empty);
        }
        if name.len() > MAX_LENGTH {
            return Err(InvalidNamespace::TooLong(name.len()));
        }
        let is_separator = |c: char| "._-".contains(c);
        let other = name.chars().find(|c| !c.is_ascii_alphanumeric() && !is_separator(*c));
        if let Some(other) = other {
            return Err(InvalidNamespace::Character(other));
        }
        if name.split(is_separator).any(str::is_empty) {
            return Err(InvalidNamespace::Separator);
        }
        Ok(Self(Kind::Named(format!("{MARK}{name}").into())))
    }

    /// Its name in records and paths.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Kind::TypesApi => TYPES_API,
            Kind::Named(marked) => marked,
        }
    }

    /// The namespace with this name in records and paths.
    #[must_use]
    pub fn from_record(text: &str) -> Option<Self> {
        match text.strip_prefix(MARK) {
            Some(name) => Self::named(name).ok(),
            None => (text == TYPES_API).then_some(Self::TYPES_API),
        }
    }

    /// The name that callers use.
    #[must_use]
    pub fn name(&self) -> &str {
        self.as_str().trim_start_matches(MARK)
    }

    /// Whether it is that of `types.API`.
    #[must_use]
    pub fn is_types_api(&self) -> bool {
        self.0 == Kind::TypesApi
    }
}

impl TryFrom<String> for Namespace {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::from_record(&text).ok_or_else(|| format!("{text:?} is no namespace"))
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> Self {
        namespace.as_str().to_owned()
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_containerd() {
        for good in ["a", "moby", "k8s.io", "a-b_c.d", "0", &"x".repeat(76)] {
            assert_eq!(Namespace::named(good).unwrap().name(), good);
        }
        for bad in ["", ".", "..", "a/b", "-a", "a-", "a..b", "ä", "a b", "@a", &"x".repeat(77)] {
            assert!(Namespace::named(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_namespace_called_types_is_not_that_of_types_api() {
        let types = Namespace::named("types").unwrap();
        assert_ne!(types, Namespace::TYPES_API);
        assert_ne!(types.as_str(), Namespace::TYPES_API.as_str());
        assert_eq!(types.name(), "types");
    }

    proptest! {
        #[test]
        fn a_record_gives_the_namespace_back(name in ".{0,80}") {
            if let Ok(namespace) = Namespace::named(&name) {
                prop_assert_eq!(Namespace::from_record(namespace.as_str()), Some(namespace.clone()));
                prop_assert!(!namespace.as_str().contains('/'));
            }
            prop_assert_eq!(Namespace::from_record(&name).is_some(), name == "types"
                || name.strip_prefix('@').is_some_and(|name| Namespace::named(name).is_ok()));
        }
    }
}
