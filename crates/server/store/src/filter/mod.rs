//! The filters of containerd's lists, metrics and event subscriptions.
//!
//! ```text
//! filters   := filter*                        a list: one of them has to match; an empty list matches all
//! filter    := "" | selector ("," selector)*  all of them have to match; "" matches all
//! selector  := path [operator value]          without an operator: there is such a field
//! path      := field ("." field)*
//! field     := quoted | [A-Za-z0-9_]+
//! operator  := "==" | "!=" | "~="             equal, not equal, holds a match of the regular expression
//! value     := quoted | a word: up to the next comma or white space
//! quoted    := '"' … '"', and after "~=" also '|' … '|' and '/' … '/'
//! ```
//!
//! In quotes there are the escapes of Go: `\a \b \f \n \r \t \v \\`, the quote, `\101` (three octal digits),
//! `\x41`, `\u0041`, `\U00000041`. White space is skipped before a field, an operator and a value, and is
//! an error before a comma, a dot and the end. A field that is not there equals nothing, differs from every
//! value but `""`, and is matched by an expression as `""` is. All this is so in containerd
//! (`pkg/filters`), whose messages errors have, too.
//!
//! Three things are stricter here. An expression that cannot be compiled is an error, where containerd
//! lists nothing and logs. Escapes have to give UTF-8, as no name or label is anything else. And there are
//! bounds: 64 KiB of filters in a list, 16 expressions, 4 KiB each and 64 KiB when compiled.
//!
//! Expressions are those of `regex-lite`: of the engines with linear time and a bound on memory it is the
//! one in which `\d`, `\w`, `\s`, `\b` mean ASCII, as in Go's RE2 syntax, and it adds no tables of Unicode to
//! the server. What it lacks of RE2 is `\p{…}`, `\C` and `\Q…\E`, which are errors.

mod parse;
mod quote;
mod scan;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_properties;

use std::{borrow::Cow, collections::BTreeMap, fmt};

use regex_lite::{Regex, RegexBuilder};

/// How long the filters of a list may be together, in bytes.
pub const MAX_LENGTH: usize = 64 << 10;

/// How many regular expressions a list of filters may have.
pub const MAX_PATTERNS: usize = 16;

/// How long a regular expression may be, in bytes.
pub const MAX_PATTERN_LENGTH: usize = 4 << 10;

/// How much memory a regular expression may take when it is compiled, in bytes.
const MAX_COMPILED: usize = 64 << 10;

/// A list of filters, of which one has to match. The default matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(Vec<Filter>);

/// Selectors, all of which have to match. Its text, by `Display`, is parsed to the same filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Vec<Selector>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(Pattern),
}

#[derive(Debug, Clone)]
struct Pattern(Regex);

/// Why a filter is not one. INVALID_ARGUMENT for its sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FilterError {
    #[error("filters: parse error: [{}]: {message}", marked(.input, *.at))]
    Syntax {
        input: String,
        /// Where in it, in bytes.
        at: usize,
        message: String,
    },
    #[error("filters: cannot compile the regular expression {pattern:?}: {message}")]
    Pattern { pattern: String, message: String },
    #[error("filters: a regular expression of {0} bytes: at most {MAX_PATTERN_LENGTH} are allowed")]
    LongPattern(usize),
    #[error("filters: more than {MAX_PATTERNS} regular expressions")]
    ManyPatterns,
    #[error("filters: {0} bytes of filters: at most {MAX_LENGTH} are allowed")]
    TooLong(usize),
}

/// The input with a mark around the character at fault, if it is not the end.
fn marked(input: &str, at: usize) -> String {
    let split = input.split_at_checked(at).and_then(|(before, rest)| {
        let mut rest = rest.chars();
        rest.next().map(|fault| (before, fault, rest.as_str()))
    });
    match split {
        Some((before, fault, after)) => format!("{before} >|{fault}|< {after}"),
        None => input.to_owned(),
    }
}

impl Filters {
    /// The filters of a request.
    ///
    /// # Errors
    /// If one of them is not a filter, or if they are too long or too many.
    pub fn parse<S: AsRef<str>>(filters: &[S]) -> Result<Self, FilterError> {
        let length = filters.iter().map(|filter| filter.as_ref().len()).sum();
        if length > MAX_LENGTH {
            return Err(FilterError::TooLong(length));
        }
        // "" matches all, however many there are: the bound above does not count them.
        if filters.iter().any(|filter| filter.as_ref().is_empty()) {
            for filter in filters.iter().filter(|filter| !filter.as_ref().is_empty()) {
                Filter::parse(filter.as_ref())?;
            }
            return Ok(Self::default());
        }
        let parsed = filters.iter().map(|filter| Filter::parse(filter.as_ref()));
        let parsed = Self(parsed.collect::<Result<_, _>>()?);
        let patterns: usize = parsed.0.iter().map(Filter::patterns).sum();
        if patterns > MAX_PATTERNS { Err(FilterError::ManyPatterns) } else { Ok(parsed) }
    }

    /// Whether an object matches. `field` returns the value of its field at a path, `None` if there is
    /// none. An empty value of a field that always is there, as an id, counts as none.
    #[must_use]
    pub fn matches<'a>(&self, field: &dyn Fn(&[String]) -> Option<Cow<'a, str>>) -> bool {
        self.0.is_empty() || self.0.iter().any(|filter| filter.matches(field))
    }
}

impl Filter {
    /// # Errors
    /// If that is not a filter, or has too many expressions.
    pub fn parse(filter: &str) -> Result<Self, FilterError> {
        if filter.len() > MAX_LENGTH {
            return Err(FilterError::TooLong(filter.len()));
        }
        if filter.is_empty() { Ok(Self::default()) } else { parse::filter(filter) }
    }

    /// As [`Filters::matches`].
    #[must_use]
    pub fn matches<'a>(&self, field: &dyn Fn(&[String]) -> Option<Cow<'a, str>>) -> bool {
        self.0.iter().all(|selector| selector.test.holds(field(&selector.path).as_deref()))
    }

    fn patterns(&self) -> usize {
        self.0.iter().filter(|selector| matches!(selector.test, Test::Matches(_))).count()
    }
}

impl Test {
    fn holds(&self, field: Option<&str>) -> bool {
        let value = field.unwrap_or_default();
        match self {
            Self::Present => field.is_some(),
            Self::Equal(wanted) => field == Some(wanted),
            Self::NotEqual(unwanted) => value != unwanted,
            Self::Matches(Pattern(regex)) => regex.is_match(value),
        }
    }
}

impl Pattern {
    fn compile(pattern: &str) -> Result<Self, FilterError> {
        if pattern.len() > MAX_PATTERN_LENGTH {
            return Err(FilterError::LongPattern(pattern.len()));
        }
        let compiled = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).build();
        compiled.map(Self).map_err(|error| FilterError::Pattern {
            pattern: pattern.to_owned(),
            message: error.to_string(),
        })
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, selector) in self.0.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            write!(f, "{comma}{selector}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, field) in self.path.iter().enumerate() {
            f.write_str(if number > 0 { "." } else { "" })?;
            if !field.is_empty() && field.chars().all(scan::is_field) {
                f.write_str(field)?;
            } else {
                quote::write_quoted(f, field)?;
            }
        }
        let (operator, value) = match &self.test {
            Test::Present => return Ok(()),
            Test::Equal(value) => ("==", value.as_str()),
            Test::NotEqual(value) => ("!=", value.as_str()),
            Test::Matches(Pattern(regex)) => ("~=", regex.as_str()),
        };
        f.write_str(operator)?;
        quote::write_quoted(f, value)
    }
}

/// The label at the rest of a path, whose fields are joined by dots: `labels.a."b/c"` is that of `a.b/c`.
#[must_use]
pub fn label<'a>(labels: &'a BTreeMap<String, String>, path: &[String]) -> Option<Cow<'a, str>> {
    labels.get(&path.join(".")).map(|value| Cow::Borrowed(value.as_str()))
}

/// A field that always is there, of which an empty value counts as none.
#[must_use]
pub fn field(value: &str) -> Option<Cow<'_, str>> {
    (!value.is_empty()).then_some(Cow::Borrowed(value))
}
