//! What containers, networks and hosts may be called.

use crate::{Error, Result};

/// Names become file names and words of hosts files.
pub(crate) fn check(field: &'static str, name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric();
    let starts_well = name.starts_with(is_plain);
    let is_good = starts_well && name.chars().all(|c| is_plain(c) || "_.-".contains(c));
    if !is_good {
        let message = format!("{name:?}: want a letter or digit, then also \"_\", \".\" and \"-\"");
        return Err(Error::invalid(field, message));
    }
    // What a host name may have, see gethostname(2).
    if name.len() > 64 {
        return Err(Error::invalid(field, format!("{name:?} is longer than 64 characters")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_words() {
        for name in ["web", "Web_1.example-2", "7"] {
            check("name", name).unwrap();
        }
        let long = "x".repeat(65);
        for name in ["", "-x", ".x", "a b", "a/b", "a\n127.0.0.1 bank", "ä", &long] {
            check("name", name).unwrap_err();
        }
    }
}
