//! A reader of JSON that takes whatever some runtime takes: any depth, any number, bytes that are not
//! UTF-8, lone surrogates, comments.
//!
//! What is not asked for is skipped, and nothing but what is asked for is kept. The reader never calls
//! itself, so that no nesting is too deep for it.

use std::{borrow::Cow, str::FromStr};

use super::escape::unescape;

/// How a runtime reads JSON where parsers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// runc: Go's encoding/json. Keys match whatever their case, and of two the last one counts.
    /// Also assumed for unknown runtimes.
    Go,
    /// crun: yajl. Keys match exactly, and of two the first one counts.
    Yajl,
    /// youki: serde_json. Keys match exactly; two are an error.
    Serde,
}

impl Dialect {
    /// The dialect of a runtime by its name or path, such as `/usr/local/bin/crun-1.8`.
    pub fn of_runtime(name: &str) -> Self {
        let name = name.rsplit('/').next().unwrap_or(name);
        if name.contains("crun") || name.contains("krun") {
            Self::Yajl
        } else if name.contains("youki") {
            Self::Serde
        } else {
            Self::Go
        }
    }

    fn matches(self, key: &str, field: &str) -> bool {
        match self {
            Self::Go => key.chars().map(fold).eq(field.chars().map(fold)),
            Self::Yajl | Self::Serde => key == field,
        }
    }
}

/// Folds case as Go does: the long s (U+017F) and the Kelvin sign (U+212A) match ASCII letters.
fn fold(letter: char) -> char {
    match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

/// The text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a text from its beginning, value by value.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    dialect: Dialect,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a [u8], dialect: Dialect) -> Self {
        Self { text, at: 0, dialect }
    }

    /// Reads an object: `member` is called before the value of each field that is one of `fields`, at
    /// most 64, and has to read or skip the value. Another type of value is skipped.
    pub(super) fn object(
        &mut self,
        fields: &[&'static str],
        mut member: impl FnMut(&mut Self, &'static str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if self.peek()? != b'{' {
            return self.skip();
        }
        self.at += 1;
        let mut seen = 0_u64;
        let mut first = true;
        while self.has_next(b'}', &mut first)? {
            let key = self.key()?;
            let known = fields.iter().position(|field| self.dialect.matches(&key, field));
            match known {
                Some(known) if self.dialect != Dialect::Yajl || seen & (1 << known) == 0 => {
                    seen |= 1 << known;
                    member(self, fields[known])?;
                }
                _ => self.skip()?,
            }
        }
        Ok(())
    }

    /// Reads an array: `item` is called before each value, and has to read or skip the value. Another
    /// type of value is skipped.
    pub(super) fn array(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        if !self.is_array()? {
            return self.skip();
        }
        self.at += 1;
        let mut first = true;
        while self.has_next(b']', &mut first)? {
            item(self)?;
        }
        Ok(())
    }

    pub(super) fn is_array(&mut self) -> Result<bool, Malformed> {
        Ok(self.peek()? == b'[')
    }

    /// `None` for another type of value.
    pub(super) fn string(&mut self) -> Result<Option<String>, Malformed> {
        if self.peek()? != b'"' {
            self.skip()?;
            return Ok(None);
        }
        self.quoted().map(|text| Some(text.into_owned()))
    }

    /// `None` for another type of value.
    pub(super) fn boolean(&mut self) -> Result<Option<bool>, Malformed> {
        Ok(match self.scalar()? {
            Some(b"true") => Some(true),
            Some(b"false") => Some(false),
            _ => None,
        })
    }

    /// `None` for another type of value, or one that does not fit.
    pub(super) fn number<N: FromStr>(&mut self) -> Result<Option<N>, Malformed> {
        let word = self.scalar()?.and_then(|word| std::str::from_utf8(word).ok());
        Ok(word.and_then(|word| word.parse().ok()))
    }

    /// Passes over a value of any type.
    pub(super) fn skip(&mut self) -> Result<(), Malformed> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' if depth > 0 => {
                    depth -= 1;
                    self.at += 1;
                }
                b',' | b':' if depth > 0 => self.at += 1,
                b'"' => self.skip_quoted()?,
                _ => self.word().map(drop)?,
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// The first byte behind blanks and comments.
    fn peek(&mut self) -> Result<u8, Malformed> {
        loop {
            match self.text.get(self.at..) {
                Some([b' ' | b'\t' | b'\r' | b'\n', ..]) => self.at += 1,
                Some([b'/', b'/', ..]) => self.skip_past(b"\n")?,
                Some([b'/', b'*', ..]) => {
                    self.at += 2;
                    self.skip_past(b"*/")?;
                }
                Some([byte, ..]) => return Ok(*byte),
                Some([]) | None => return Err(Malformed),
            }
        }
    }

    fn skip_past(&mut self, end: &[u8]) -> Result<(), Malformed> {
        let rest = &self.text[self.at..];
        match rest.windows(end.len()).position(|window| window == end) {
            Some(length) => {
                self.at += length + end.len();
                Ok(())
            }
            None => Err(Malformed),
        }
    }

    /// Whether another member or item comes before the end of the object or array.
    fn has_next(&mut self, end: u8, first: &mut bool) -> Result<bool, Malformed> {
        let byte = self.peek()?;
        if byte == end {
            self.at += 1;
            return Ok(false);
        }
        if !std::mem::take(first) {
            if byte != b',' {
                return Err(Malformed);
            }
            self.at += 1;
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<Cow<'a, str>, Malformed> {
        if self.peek()? != b'"' {
            return Err(Malformed);
        }
        let key = self.quoted()?;
        if self.peek()? != b':' {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(key)
    }

    /// A number, true, false or null; `None` for another type of value.
    fn scalar(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.peek()? {
            b'{' | b'[' | b'"' => {
                self.skip()?;
                Ok(None)
            }
            _ => self.word().map(Some),
        }
    }

    fn word(&mut self) -> Result<&'a [u8], Malformed> {
        let rest = &self.text[self.at..];
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        if length == 0 {
            return Err(Malformed);
        }
        self.at += length;
        Ok(&rest[..length])
    }

    fn skip_quoted(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        loop {
            match self.text.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(Malformed),
            }
        }
    }

    fn quoted(&mut self) -> Result<Cow<'a, str>, Malformed> {
        let begin = self.at + 1;
        self.skip_quoted()?;
        let content = &self.text[begin..self.at - 1];
        match std::str::from_utf8(content) {
            Ok(plain) if !content.contains(&b'\\') => Ok(Cow::Borrowed(plain)),
            _ => Ok(Cow::Owned(unescape(content, self.dialect))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Reads any value into one of serde_json's.
    fn value(json: &mut Reader<'_>) -> Result<Value, Malformed> {
        Ok(match json.peek()? {
            b'[' => {
                let mut items = Vec::new();
                json.array(|json| {
                    items.push(value(json)?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            b'"' => json!(json.string()?),
            b't' | b'f' => json!(json.boolean()?),
            b'n' => json!(json.boolean()?),
            _ => json!(json.number::<i64>()?),
        })
    }

    fn string(text: &[u8], dialect: Dialect) -> String {
        let quoted = [b"\"", text, b"\""].concat();
        Reader::new(&quoted, dialect).string().unwrap().unwrap()
    }

    /// Any value, with objects only where `objects` says so.
    fn any_value(objects: bool) -> BoxedStrategy<Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        let nested = move |inner: BoxedStrategy<Value>| {
            let array = prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from);
            let object = prop::collection::btree_map(any::<String>(), inner, 0..5);
            let object = object.prop_map(|members| json!(members));
            if objects { prop_oneof![array, object].boxed() } else { array.boxed() }
        };
        leaf.prop_recursive(5, 50, 5, move |inner| nested(inner.boxed())).boxed()
    }

    proptest! {
        #[test]
        fn valid_json_is_read_as_others_read_it(expected in any_value(false)) {
            for text in [expected.to_string(), serde_json::to_string_pretty(&expected).unwrap()] {
                for dialect in [Dialect::Go, Dialect::Serde] {
                    let read = value(&mut Reader::new(text.as_bytes(), dialect));
                    prop_assert_eq!(read.unwrap(), expected.clone());
                }
            }
        }

        #[test]
        fn anything_is_passed_over(before in any_value(true), wanted in any::<String>()) {
            let text = json!([{ "a": before, "wanted": wanted, "z": before }, 7]).to_string();
            let mut json = Reader::new(text.as_bytes(), Dialect::Serde);
            let mut found = Vec::new();
            json.array(|json| json.object(&["wanted"], |json, _| {
                found.extend(json.string()?);
                Ok(())
            })).unwrap();
            prop_assert_eq!(found, [wanted]);
            prop_assert_eq!(json.at, text.len());
        }

        #[test]
        fn nonsense_ends(text in any::<Vec<u8>>()) {
            let _ = value(&mut Reader::new(&text, Dialect::Go));
            string(&text.iter().map(|b| if *b == b'"' { b'.' } else { *b }).chain(*b"..").collect::<Vec<_>>(), Dialect::Yajl);
        }
    }

    #[test]
    fn no_nesting_is_too_deep() {
        let deep = [b"[".repeat(1_000_000), b"]".repeat(1_000_000)].concat();
        let mut json = Reader::new(&deep, Dialect::Go);
        json.skip().unwrap();
        assert_eq!(json.at, deep.len());
    }

    #[test]
    fn comments_are_blanks() {
        let text = b"/* a */ [ // b\n 1, /**/ 2 ]";
        assert_eq!(value(&mut Reader::new(text, Dialect::Yajl)).unwrap(), json!([1, 2]));
        assert!(value(&mut Reader::new(b"[1 /* 2]", Dialect::Yajl)).is_err());
    }

    #[test]
    fn keys_of_another_case() {
        let matches = |key: &str| Dialect::Go.matches(key, "args");
        assert!(matches("args") && matches("Args") && matches("argſ"));
        assert!(!matches("arg") && !matches("argss") && !Dialect::Yajl.matches("Args", "args"));
    }

    #[test]
    fn runtimes_are_known_by_name() {
        assert_eq!(Dialect::of_runtime("crun"), Dialect::Yajl);
        assert_eq!(Dialect::of_runtime("/crun/bin/runc"), Dialect::Go);
        assert_eq!(Dialect::of_runtime("/opt/docker-runc"), Dialect::Go);
        assert_eq!(Dialect::of_runtime("/opt/youki"), Dialect::Serde);
        assert_eq!(Dialect::of_runtime("/opt/my-own"), Dialect::Go);
    }
}
