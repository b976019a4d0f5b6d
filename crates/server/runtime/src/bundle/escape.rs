//! Strings of JSON, also those that are not valid Unicode.

use super::json::Dialect;

/// The text between quotation marks. What is not text becomes U+FFFD, byte by byte.
pub(super) fn unescape(mut content: &[u8], dialect: Dialect) -> String {
    let mut text = String::with_capacity(content.len());
    loop {
        let length = content.iter().position(|byte| *byte == b'\\').unwrap_or(content.len());
        let (plain, escaped) = content.split_at(length);
        push_lossy(&mut text, plain);
        let [_, letter, rest @ ..] = escaped else { break };
        content = rest;
        match letter {
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => content = push_code(&mut text, rest, dialect),
            other => push_lossy(&mut text, &[*other]),
        }
    }
    if dialect == Dialect::Yajl {
        // A program in C takes a NUL byte for the end of the string.
        text.truncate(text.find('\0').unwrap_or(text.len()));
    }
    text
}

fn push_lossy(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
}

/// Adds what comes behind `\u`; what is left after that.
fn push_code<'a>(text: &mut String, rest: &'a [u8], dialect: Dialect) -> &'a [u8] {
    let Some((code, rest)) = hexadecimal(rest) else {
        text.push(char::REPLACEMENT_CHARACTER);
        return rest;
    };
    if !(0xd800..0xdc00).contains(&code) {
        text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
        return rest;
    }
    let next = rest.strip_prefix(b"\\u").and_then(hexadecimal);
    let paired = |low: u32| char::from_u32(0x10000 + ((code & 0x3ff) << 10) + (low & 0x3ff));
    match (next, dialect) {
        (Some((low, rest)), _) if (0xdc00..0xe000).contains(&low) => {
            text.extend(paired(low));
            rest
        }
        // yajl takes whatever comes next for the second half of a pair.
        (Some((low, rest)), Dialect::Yajl) => {
            text.extend(paired(low));
            rest
        }
        (None, Dialect::Yajl) => {
            text.push('?');
            rest
        }
        (_, Dialect::Go | Dialect::Serde) => {
            text.push(char::REPLACEMENT_CHARACTER);
            rest
        }
    }
}

fn hexadecimal(text: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = text.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As runc 1.1.5 and crun 1.8.1 were seen to do.
    #[test]
    fn bytes_that_are_not_unicode_are_replaced() {
        let go = |text: &[u8]| unescape(text, Dialect::Go);
        let yajl = |text: &[u8]| unescape(text, Dialect::Yajl);
        assert_eq!(go(br"a\ud800bcd"), "a\u{fffd}bcd");
        assert_eq!(yajl(br"a\ud800bcd"), "a?bcd");
        assert_eq!(go(br"a\ud800\u0041bcd"), "a\u{fffd}Abcd");
        assert_eq!(yajl(br"a\ud800\u0041bcd"), "a\u{10041}bcd");
        assert_eq!(go(br"a\udc00b"), "a\u{fffd}b");
        assert_eq!(go(br"\ud83d\ude00"), "\u{1f600}");
        assert_eq!(go(br"\ud83d\ud83d\ude00z"), "\u{fffd}\u{1f600}z");
        assert_eq!(go(b"caf\xe9\xe2\x82A"), "caf\u{fffd}\u{fffd}\u{fffd}A");
        assert_eq!(yajl(br"a\u0000b"), "a");
        assert_eq!(go(br#"\/\\\"\t"#), "/\\\"\t");
    }
}
