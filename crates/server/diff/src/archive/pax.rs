//! PAX records: `LENGTH KEY=VALUE`, a newline after each. A value can have any bytes, newlines too, which
//! the crate `tar` takes for the end of a record.

use std::collections::BTreeMap;

use super::{ArchiveError, ArchiveError::Malformed, Time, XATTR};

/// The records of an entry, in their order.
#[derive(Debug, Default)]
pub(super) struct Records(Vec<(String, Vec<u8>)>);

impl Records {
    pub(super) fn parse(mut data: &[u8]) -> Result<Self, ArchiveError> {
        let malformed = || Malformed("has PAX records that cannot be read");
        let mut records = Vec::new();
        while !data.is_empty() {
            let blank = data.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length = std::str::from_utf8(&data[..blank]).ok();
            let length = length.and_then(|length| length.parse().ok()).ok_or_else(malformed)?;
            if length <= blank + 1 || length > data.len() {
                return Err(malformed());
            }
            let (record, rest) = data.split_at(length);
            let record = record[blank + 1..].strip_suffix(b"\n").ok_or_else(malformed)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            let key = std::str::from_utf8(&record[..equals]).map_err(|_| malformed())?;
            if key.is_empty() || key.contains('\0') {
                return Err(malformed());
            }
            records.push((key.to_owned(), record[equals + 1..].to_vec()));
            data = rest;
        }
        Ok(Self(records))
    }

    /// All records in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// The value of a record; the last one counts, and an empty one is none.
    pub(super) fn get(&self, key: &str) -> Option<&[u8]> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| &**value).filter(|value| !value.is_empty())
    }

    pub(super) fn text(&self, key: &str) -> Option<Vec<u8>> {
        self.get(key).map(<[u8]>::to_vec)
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, ArchiveError> {
        self.get(key).map(decimal).transpose()
    }

    /// Seconds, and up to nine digits of them that count.
    pub(super) fn time(&self, key: &str) -> Result<Option<Time>, ArchiveError> {
        let malformed = || Malformed("has a time that cannot be read");
        let Some(value) = self.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(value).map_err(|_| malformed())?;
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().map_err(|_| malformed())?;
        if !part.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(malformed());
        }
        let digits = part.bytes().chain(std::iter::repeat(b'0')).take(9);
        let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        if whole.starts_with('-') && nanoseconds > 0 {
            let time = Time { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds };
            return Ok(Some(time));
        }
        Ok(Some(Time { seconds, nanoseconds }))
    }

    /// Names and values of extended attributes; the last one of a name counts.
    pub(super) fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let attributes = self.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix(XATTR)?.as_bytes().to_vec(), value.to_vec()))
        });
        attributes.collect::<BTreeMap<_, _>>().into_iter().collect()
    }
}

pub(super) fn decimal(text: &[u8]) -> Result<u64, ArchiveError> {
    let text = std::str::from_utf8(text).ok();
    text.and_then(|text| text.parse().ok()).ok_or(Malformed("has a number that cannot be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_may_have_newlines() {
        let records = Records::parse(b"24 SCHILY.xattr.a.b=\n=\n\n9 uid=70\n").unwrap();
        assert_eq!(records.xattrs(), [(b"a.b".to_vec(), b"\n=\n".to_vec())]);
        assert_eq!(records.number("uid").unwrap(), Some(70));
        let bad: [&[u8]; 8] = [
            b"9 uid=70",
            b"x",
            b"0 a=b\n",
            b"7 a=b\n",
            b"99 a=b\n",
            b"5 =b\n",
            b"4 a\n",
            b"6 a=bc",
        ];
        for bad in bad {
            assert!(Records::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_attribute_of_a_name_counts_however_many_there_are() {
        let record = |name: &str, value: &str| {
            let rest = format!(" {XATTR}{name}={value}\n");
            format!("{}{rest}", rest.len() + 2)
        };
        let many = (0..100_000).map(|number| record(&format!("{number:06}"), "1"));
        let all: String = many.chain([record("000007", "2")]).collect();
        let found = Records::parse(all.as_bytes()).unwrap().xattrs();
        assert_eq!(found.len(), 100_000);
        assert_eq!(found[7], (b"000007".to_vec(), b"2".to_vec()));
    }

    #[test]
    fn times_have_nanoseconds() {
        let time = |text: &str| {
            let length = "00 mtime=\n".len() + text.len();
            Records::parse(format!("{length} mtime={text}\n").as_bytes()).unwrap().time("mtime")
        };
        let is = |seconds, nanoseconds| Some(Time { seconds, nanoseconds });
        assert_eq!(time("12").unwrap(), is(12, 0));
        assert_eq!(time("12.5").unwrap(), is(12, 500_000_000));
        assert_eq!(time("12.1234567891").unwrap(), is(12, 123_456_789));
        assert_eq!(time("-1.5").unwrap(), is(-2, 500_000_000));
        assert!(time("1x").is_err() && time("1.x").is_err());
    }
}
