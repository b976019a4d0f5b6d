//! Values in quotes, with the escapes of Go.

use std::fmt;

/// Why a quoted value stands for none.
pub(super) const NO_VALUE: &str = "unquoting failed: quote syntax error";

/// What is between the quotes, with what its escapes stand for. `quoted` is as the scanner has found it: the
/// escapes have as many digits as they need.
pub(super) fn unquote(quoted: &str) -> Option<String> {
    let inner = quoted.get(1..quoted.len().checked_sub(1)?)?;
    let mut value = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some((before, after)) = rest.split_once('\\') {
        value.extend_from_slice(before.as_bytes());
        rest = escape(after, &mut value)?;
    }
    value.extend_from_slice(rest.as_bytes());
    String::from_utf8(value).ok()
}

/// Adds what an escape stands for. `text` begins after its backslash; returns what follows the escape.
fn escape<'a>(text: &'a str, value: &mut Vec<u8>) -> Option<&'a str> {
    let mut chars = text.chars();
    let kind = chars.next()?;
    let byte = match kind {
        'a' => 7,
        'b' => 8,
        'f' => 12,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 11,
        'x' => {
            let (code, rest) = number(chars.as_str(), 2, 16)?;
            value.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        'u' | 'U' => {
            let digits = if kind == 'u' { 4 } else { 8 };
            let (code, rest) = number(chars.as_str(), digits, 16)?;
            if code > u32::from(char::MAX) {
                return None;
            }
            // The half of a pair is no character, and becomes what Go makes of it.
            let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
            value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(rest);
        }
        '0'..='7' => {
            let (code, rest) = number(text, 3, 8)?;
            value.push(u8::try_from(code).ok()?);
            return Some(rest);
        }
        '\\' | '"' | '|' | '/' => u8::try_from(kind).ok()?,
        _ => return None,
    };
    value.push(byte);
    Some(chars.as_str())
}

fn number(text: &str, digits: usize, base: u32) -> Option<(u32, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    // No sign, which the function below would take.
    let is_number = number.chars().all(|c| c.is_digit(base));
    is_number.then(|| u32::from_str_radix(number, base).ok()).flatten().map(|n| (n, rest))
}

/// In double quotes, so that [`unquote`] gives the same again.
pub(super) fn write_quoted(f: &mut fmt::Formatter<'_>, value: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in value.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}"),
            '\n' => f.write_str("\\n"),
            '\u{fffd}' => f.write_str("\\ufffd"),
            _ if c.is_ascii_control() => write!(f, "\\x{:02x}", u32::from(c)),
            _ => write!(f, "{c}"),
        }?;
    }
    f.write_str("\"")
}
