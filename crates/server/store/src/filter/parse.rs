//! From tokens to a filter.

use super::{
    Filter, FilterError, Pattern, Selector, Test,
    quote::{NO_VALUE, unquote},
    scan::{Fault, Scanner, Token},
};

struct Parser<'a> {
    input: &'a str,
    scanner: Scanner<'a>,
    patterns: usize,
}

/// A filter that is not empty.
pub(super) fn filter(input: &str) -> Result<Filter, FilterError> {
    let mut parser = Parser { input, scanner: Scanner::new(input), patterns: 0 };
    let mut selectors = vec![parser.selector()?];
    loop {
        match parser.scanner.peek() {
            None => return Ok(Filter(selectors)),
            Some(',') => {
                parser.scan()?;
                selectors.push(parser.selector()?);
            }
            Some(other) => {
                let at = parser.scanner.position();
                return Err(parser.fault(at, format!("unexpected input: {other}")));
            }
        }
    }
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Selector, FilterError> {
        let path = self.path()?;
        let test = match self.scanner.peek() {
            None | Some(',') => Test::Present,
            Some(_) => self.test()?,
        };
        Ok(Selector { path, test })
    }

    fn path(&mut self) -> Result<Vec<String>, FilterError> {
        let mut path = vec![self.field()?];
        while self.scanner.peek() == Some('.') {
            self.scan()?;
            path.push(self.field()?);
        }
        Ok(path)
    }

    fn field(&mut self) -> Result<String, FilterError> {
        match self.scan()? {
            (_, Token::Field(field)) => Ok(field.to_owned()),
            (at, Token::Quoted(quoted)) => self.unquote(at, quoted, false),
            (at, _) => Err(self.fault(at, "expected field or quoted")),
        }
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        let expected = r#"expected an operator ("=="|"!="|"~=")"#;
        match self.scan()? {
            (_, Token::Operator("==")) => Ok(Test::Equal(self.value(false)?)),
            (_, Token::Operator("!=")) => Ok(Test::NotEqual(self.value(false)?)),
            (_, Token::Operator("~=")) => {
                let pattern = self.value(true)?;
                self.patterns += 1;
                if self.patterns > super::MAX_PATTERNS {
                    return Err(FilterError::ManyPatterns);
                }
                Ok(Test::Matches(Pattern::compile(&pattern)?))
            }
            (at, Token::Operator(other)) => {
                Err(self.fault(at, format!("unsupported operator {other:?}")))
            }
            (at, _) => Err(self.fault(at, expected)),
        }
    }

    fn value(&mut self, is_pattern: bool) -> Result<String, FilterError> {
        match self.scan()? {
            (_, Token::Value(value)) => Ok(value.to_owned()),
            (at, Token::Quoted(quoted)) => self.unquote(at, quoted, is_pattern),
            (at, _) => Err(self.fault(at, "expected value or quoted")),
        }
    }

    /// Only patterns may have other quotes than double ones.
    fn unquote(&self, at: usize, quoted: &str, is_pattern: bool) -> Result<String, FilterError> {
        if !is_pattern && !quoted.starts_with('"') {
            return Err(self.fault(at, "invalid quote encountered"));
        }
        unquote(quoted).ok_or_else(|| self.fault(at, NO_VALUE))
    }

    fn scan(&mut self) -> Result<(usize, Token<'a>), FilterError> {
        self.scanner.scan().map_err(|Fault { at, message }| self.fault(at, message))
    }

    fn fault(&self, at: usize, message: impl Into<String>) -> FilterError {
        FilterError::Syntax { input: self.input.to_owned(), at, message: message.into() }
    }
}
