//! Replaces the value of `:authority` in HPACK header blocks (RFC 7541), without decoding them.
//!
//! Only the bounds of the representations need to be known. A literal that the decoder is to put
//! into its dynamic table gets there with the new value, so references to it need no change.
//!
//! The new entry must not be larger than the one the client's encoder believes to be there, or
//! the decoder would drop entries that the client still refers to. It may be smaller:
//! entries are dropped from the old end and counted from the new one, so the decoder then has
//! all that the client knows of, at the same indices, and after these some that the client never names.

/// The values put in place of the client's, as strings of HPACK; the second where the first is
/// too long.
const LOCALHOST: &[u8] = b"\x09localhost";
const SHORT: &[u8] = b"\x01l";

/// The whole field, not for the dynamic table (RFC 7541 §6.2.2).
const LOCALHOST_FIELD: &[u8] = b"\x01\x09localhost";

/// `:authority` in the static table, without a value (RFC 7541, appendix A).
const AUTHORITY: usize = 1;

/// The newest entry of the dynamic table.
const NEWEST: usize = 62;

/// Both spellings of the name, the second in the Huffman code.
const PLAIN_NAME: &[u8] = b":authority";
const HUFFMAN_NAME: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";

/// The most bits the Huffman code takes for a byte (RFC 7541, appendix B).
const LONGEST_CODE: usize = 30;

/// Rewrites the blocks of one connection, all of them and in order.
#[derive(Debug, Default)]
pub(super) struct AuthorityRewriter {
    /// Which entries of the dynamic table are named `:authority`, the newest in the lowest bit.
    /// The table holds 128 at most: h2 leaves it at 4096 bytes, and each entry counts for 32 and
    /// its text.
    named: u128,
}

impl AuthorityRewriter {
    /// The block with a host for the authority. `None` if there is nothing to replace, or the
    /// block is malformed, for which h2 ends the connection.
    pub(super) fn rewrite(&mut self, block: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut copied = 0;
        let mut cursor = Cursor { block, at: 0 };
        while let Some(&first) = block.get(cursor.at) {
            let replacement = if first & 0x80 != 0 {
                let from = cursor.at;
                (cursor.integer(7)? == AUTHORITY).then_some((from, LOCALHOST_FIELD))
            } else if first & 0x40 != 0 {
                self.literal(&mut cursor, 6)?
            } else if first & 0x20 != 0 {
                cursor.integer(5)?;
                None
            } else {
                self.literal(&mut cursor, 4)?
            };
            if let Some((from, new)) = replacement {
                out.extend_from_slice(&block[copied..from]);
                out.extend_from_slice(new);
                copied = cursor.at;
            }
        }
        if copied == 0 {
            return None;
        }
        out.extend_from_slice(&block[copied..]);
        Some(out)
    }

    /// Reads a literal field: from where on it is to be replaced, if at all, and by what. `None`
    /// if it is malformed.
    fn literal(
        &mut self,
        cursor: &mut Cursor<'_>,
        prefix: u32,
    ) -> Option<Option<(usize, &'static [u8])>> {
        let is_authority = match cursor.integer(prefix)? {
            0 => {
                let name = cursor.string()?;
                name.text == if name.huffman { HUFFMAN_NAME } else { PLAIN_NAME }
            }
            AUTHORITY => true,
            index => self.is_named(index),
        };
        let from = cursor.at;
        let value = cursor.string()?;
        let indexed = prefix == 6;
        if indexed {
            self.named = self.named << 1 | u128::from(is_authority);
        }
        let room = value.min_len();
        let new = if !indexed || room >= "localhost".len() {
            LOCALHOST
        } else if room > 0 {
            SHORT
        } else {
            // No host is as short, so this is no valid authority, and h2 refuses it.
            return Some(None);
        };
        Some(is_authority.then_some((from, new)))
    }

    fn is_named(&self, index: usize) -> bool {
        let age = index.checked_sub(NEWEST).and_then(|age| u32::try_from(age).ok());
        age.and_then(|age| self.named.checked_shr(age)).is_some_and(|named| named & 1 == 1)
    }
}

/// A string as it is encoded, perhaps in the Huffman code.
struct Text<'a> {
    huffman: bool,
    text: &'a [u8],
}

impl Text<'_> {
    /// The least length of the decoded string. The last byte may hold a single bit of the code.
    fn min_len(&self) -> usize {
        match self.text.len() {
            0 => 0,
            len if self.huffman => (len * 8 - 7).div_ceil(LONGEST_CODE),
            len => len,
        }
    }
}

struct Cursor<'a> {
    block: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// An integer that begins with the low `prefix` bits of a byte (RFC 7541 §5.1). h2 takes
    /// five bytes at most.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let max = (1 << prefix) - 1;
        let mut value = usize::from(self.byte()?) & max;
        if value < max {
            return Some(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn string(&mut self) -> Option<Text<'a>> {
        let huffman = self.block.get(self.at)? & 0x80 != 0;
        let len = self.integer(7)?;
        let text = self.block.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(Text { huffman, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(block: &[u8]) -> Option<Vec<u8>> {
        AuthorityRewriter::default().rewrite(block)
    }

    #[test]
    fn the_path_of_a_socket_becomes_a_host_and_the_rest_stays() {
        let block = b"\x83\x86\x41\x0f/run/gantry.sock\x44\x02/x".to_vec();
        assert_eq!(rewritten(&block), None, "the length says 15, so what follows is no field");
        let block = b"\x83\x86\x41\x10/run/gantry.sock\x44\x02/x";
        assert_eq!(rewritten(block).unwrap(), b"\x83\x86\x41\x09localhost\x44\x02/x");
    }

    #[test]
    fn every_representation_of_the_name_is_known() {
        for (given, expected) in [
            (&b"\x01\x02/x"[..], &b"\x01\x09localhost"[..]),
            (b"\x11\x02/x", b"\x11\x09localhost"),
            (b"\x40\x0a:authority\x0a/run/a.soc", b"\x40\x0a:authority\x09localhost"),
            (b"\x00\x0a:authority\x02/x", b"\x00\x0a:authority\x09localhost"),
            (
                b"\x10\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x02/x",
                b"\x10\x88\xb8\x3b\x53\x39\xec\x32\x7d\x7f\x09localhost",
            ),
            (b"\x81", b"\x01\x09localhost"),
        ] {
            assert_eq!(rewritten(given).unwrap(), expected);
        }
    }

    #[test]
    fn an_entry_of_the_dynamic_table_never_gets_larger() {
        assert_eq!(rewritten(b"\x41\x08/run/sck").unwrap(), b"\x41\x01l");
        assert_eq!(rewritten(b"\x41\x09/run/sock").unwrap(), b"\x41\x09localhost");
        // The code may have 30 bits for one byte: 30 bytes can be eight of those.
        let huffman = |len: u8| [&[0x41, 0x80 | len][..], &vec![0xff; len.into()]].concat();
        assert_eq!(rewritten(&huffman(1)).unwrap(), b"\x41\x01l");
        assert_eq!(rewritten(&huffman(30)).unwrap(), b"\x41\x01l");
        assert_eq!(rewritten(&huffman(31)).unwrap(), b"\x41\x09localhost");
        assert_eq!(rewritten(b"\x41\x00"), None);
    }

    #[test]
    fn a_name_is_found_in_the_dynamic_table() {
        let mut rewriter = AuthorityRewriter::default();
        assert!(rewriter.rewrite(b"\x40\x0a:authority\x02/x\x40\x01a\x01b").is_some());
        // The newest is `a`, the one before it the authority, and there is nothing else.
        assert_eq!(rewriter.rewrite(b"\x0f\x2f\x02/y"), None);
        assert_eq!(rewriter.rewrite(b"\x0f\x30\x02/y").unwrap(), b"\x0f\x30\x09localhost");
        assert_eq!(rewriter.rewrite(b"\x0f\x31\x02/y"), None);
        assert_eq!(rewriter.rewrite(b"\x0f\xff\xff\xff\x7f\x02/y"), None);
        for _ in 0..126 {
            assert_eq!(rewriter.rewrite(b"\x40\x01a\x01b"), None);
        }
        assert!(rewriter.rewrite(b"\x0f\xae\x01\x02/y").is_some(), "the oldest of 128");
        assert_eq!(rewriter.rewrite(b"\x40\x01a\x01b"), None);
        assert_eq!(rewriter.rewrite(b"\x0f\xaf\x01\x02/y"), None);
    }

    #[test]
    fn blocks_cut_short_are_left_alone() {
        let block = b"\x3f\xe1\x1f\x41\x10/run/gantry.sock";
        assert!(rewritten(block).is_some());
        for len in 0..block.len() {
            assert_eq!(rewritten(&block[..len]), None, "{len}");
        }
        assert_eq!(rewritten(b"\x41\x7f\xff\xff\xff\xff\xff\x01"), None);
    }
}
