//! The key sequence that leaves a container running and ends the session with it.

use std::str::FromStr;

/// Keys that are typed one after the other, by default ctrl-p ctrl-q.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl FromStr for DetachKeys {
    type Err = String;

    /// A comma-separated list of `ctrl-` and one of `a-z @ [ \ ] ^ _`, or single characters.
    fn from_str(text: &str) -> Result<DetachKeys, String> {
        text.split(',').map(key).collect::<Result<_, _>>().map(DetachKeys)
    }
}

fn key(text: &str) -> Result<u8, String> {
    let wrong =
        || format!("{text:?} is no key: want one character, or ctrl- and one of a-z@[\\]^_");
    let (control, name) = match text.strip_prefix("ctrl-") {
        Some(name) => (true, name),
        None => (false, text),
    };
    match (control, name.as_bytes()) {
        (false, &[byte]) if byte.is_ascii() => Ok(byte),
        (true, &[byte @ (b'a'..=b'z' | b'@' | b'['..=b'_')]) => Ok(byte & 0x1f),
        _ => Err(wrong()),
    }
}

/// Looks for the keys in what is typed.
#[derive(Debug)]
pub(crate) struct Detector {
    keys: Vec<u8>,
    matched: usize,
}

impl Detector {
    pub(crate) fn new(keys: &DetachKeys) -> Detector {
        Detector { keys: keys.0.clone(), matched: 0 }
    }

    /// The part of the input that goes to the container, and whether the keys were complete. A beginning
    /// of the sequence is held back until it is clear whether the rest follows.
    pub(crate) fn pass(&mut self, input: &[u8]) -> (Vec<u8>, bool) {
        let mut through = Vec::with_capacity(input.len());
        for &byte in input {
            if byte != self.keys[self.matched] {
                through.extend_from_slice(&self.keys[..self.matched]);
                self.matched = 0;
            }
            if byte != self.keys[self.matched] {
                through.push(byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                return (through, true);
            }
        }
        (through, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detector(keys: &str) -> Detector {
        Detector::new(&keys.parse().unwrap())
    }

    #[test]
    fn keys_have_names() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys(vec![16, 17])));
        assert_eq!("ctrl-@,ctrl-[,x".parse(), Ok(DetachKeys(vec![0, 27, b'x'])));
        for wrong in ["", "ctrl-", "ctrl-A", "ctrl-1", "ab", "a,,b", "ü"] {
            wrong.parse::<DetachKeys>().unwrap_err();
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads() {
        let mut detector = detector("ctrl-p,ctrl-q");
        assert_eq!(detector.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(detector.pass(b"\x11"), (vec![], true));
    }

    #[test]
    fn what_only_begins_like_it_goes_through() {
        let mut detector = detector("ctrl-p,ctrl-q");
        assert_eq!(detector.pass(b"\x10"), (vec![], false));
        assert_eq!(detector.pass(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(detector.pass(b"\x10\x10\x11"), (b"\x10".to_vec(), true));
    }
}
