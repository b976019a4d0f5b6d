//! Cuts a filter into tokens.

/// What a filter consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    End,
    Field(&'a str),
    Value(&'a str),
    /// With its quotes, in which all escapes are of a kind that exists.
    Quoted(&'a str),
    Separator,
    Operator(&'a str),
    /// A character that begins none of the others.
    Other,
}

/// A character that no token can have, or a quote without its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where, in bytes.
    pub(super) at: usize,
    pub(super) message: &'static str,
}

pub(super) struct Scanner<'a> {
    input: &'a str,
    at: usize,
    /// Whether a word is a value, which has more characters than a field.
    in_value: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(input: &'a str) -> Self {
        Self { input, at: 0, in_value: false }
    }

    /// Where the next token, or the white space before it, begins.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The next character, be it white space.
    pub(super) fn peek(&self) -> Option<char> {
        self.input[self.at..].chars().next()
    }

    /// The next token and where it begins.
    pub(super) fn scan(&mut self) -> Result<(usize, Token<'a>), Fault> {
        self.skip(char::is_whitespace);
        let start = self.at;
        let Some(first) = self.peek() else { return Ok((start, Token::End)) };
        if let Some(message) = unacceptable(first) {
            return Err(Fault { at: start, message });
        }
        self.at += first.len_utf8();
        let token = match first {
            '"' | '|' | '/' => {
                self.quoted(first).map_err(|message| Fault { at: start, message })?;
                Token::Quoted(&self.input[start..self.at])
            }
            ',' | '.' => {
                self.in_value = false;
                Token::Separator
            }
            '=' | '!' | '~' => {
                self.skip(|c| matches!(c, '=' | '!' | '~'));
                self.in_value = true;
                Token::Operator(&self.input[start..self.at])
            }
            _ if self.in_value => {
                self.skip(|c| c != ',' && !c.is_whitespace() && !c.is_control() && c != '\u{fffd}');
                self.in_value = false;
                Token::Value(&self.input[start..self.at])
            }
            _ if is_field(first) => {
                self.skip(is_field);
                Token::Field(&self.input[start..self.at])
            }
            _ => Token::Other,
        };
        Ok((start, token))
    }

    fn skip(&mut self, which: impl Fn(char) -> bool) {
        let rest = &self.input[self.at..];
        self.at = rest.find(|c| !which(c)).map_or(self.input.len(), |skipped| self.at + skipped);
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// Continues to just after the closing quote. The first fault counts.
    fn quoted(&mut self, quote: char) -> Result<(), &'static str> {
        let mut fault = None;
        loop {
            match self.next() {
                Some(c) if c == quote => return fault.map_or(Ok(()), Err),
                None | Some('\n') => return Err(fault.unwrap_or("quoted literal not terminated")),
                Some(c) if let Some(message) = unacceptable(c) => {
                    return Err(fault.unwrap_or(message));
                }
                Some('\\') => fault = fault.or(self.escape(quote).err()),
                Some(_) => {}
            }
        }
    }

    fn escape(&mut self, quote: char) -> Result<(), &'static str> {
        let (base, digits) = match self.peek() {
            Some(c) if c == quote => (0, 0),
            Some('a' | 'b' | 'f' | 'n' | 'r' | 't' | 'v' | '\\') => (0, 0),
            Some('0'..='7') => (8, 3),
            Some('x') => (16, 2),
            Some('u') => (16, 4),
            Some('U') => (16, 8),
            _ => return Err("illegal escape sequence"),
        };
        if base != 8 {
            self.next();
        }
        for _ in 0..digits {
            if !self.peek().is_some_and(|c| c.is_digit(base)) {
                return Err("illegal numeric escape sequence");
            }
            self.next();
        }
        Ok(())
    }
}

/// What no filter has anywhere.
fn unacceptable(c: char) -> Option<&'static str> {
    match c {
        '\0' => Some("unexpected null"),
        '\u{fffd}' => Some("rune error"),
        _ => None,
    }
}

pub(super) fn is_field(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric()
}
