//! The last output of a process, which readers read from its beginning, each at its own pace.

use std::collections::VecDeque;

/// What is counted for a chunk beside its bytes.
const COST: usize = 64;

/// Small writes to one stream are put together into chunks of this size.
const JOINED: usize = 4096;

/// One of the outputs of a process. With a terminal all goes to stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputStream {
    /// File descriptor 1.
    Stdout,
    /// File descriptor 2.
    Stderr,
}

/// What a reader reads.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes, as the process has written them.
    Output {
        /// To which stream.
        stream: OutputStream,
        /// Not empty.
        data: Vec<u8>,
    },
    /// So many bytes are missing here: they were dropped before they were read. None if nobody knows how many.
    Gap(Option<u64>),
    /// Nothing comes any more: nobody has the streams open.
    End,
}

/// Where a reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Beginning,
    /// Of the next byte, of all that were ever written.
    At(u64),
    /// It has been told of the end.
    End,
}

/// Output of both streams in the order in which it was read.
#[derive(Debug)]
pub(super) struct Ring {
    chunks: VecDeque<Chunk>,
    /// Bytes, and what chunks cost, that are kept at most.
    room: usize,
    used: usize,
    /// Bytes that were ever added.
    end: u64,
    /// Streams that have not ended.
    open: usize,
    /// An earlier server has read something that is gone with it.
    lost: bool,
}

#[derive(Debug)]
struct Chunk {
    /// The place of its first byte.
    start: u64,
    stream: OutputStream,
    data: Vec<u8>,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }

    /// Of memory, also of what is not used yet of the room for its bytes.
    fn cost(&self) -> usize {
        self.data.capacity() + COST
    }
}

impl Ring {
    pub(super) fn new(room: usize, open: usize, lost: bool) -> Self {
        // Of a process whose output is not held nothing is missing.
        Self { chunks: VecDeque::new(), room, used: 0, end: 0, open, lost: lost && open > 0 }
    }

    /// Adds output, and drops the oldest for which there is no room then.
    pub(super) fn push(&mut self, stream: OutputStream, data: &[u8]) {
        let start = self.end;
        self.end += data.len() as u64;
        match self.chunks.back_mut() {
            Some(last) if last.stream == stream && last.data.len() + data.len() <= JOINED => {
                self.used -= last.cost();
                last.data.extend_from_slice(data);
                self.used += last.cost();
            }
            _ => {
                let chunk = Chunk { start, stream, data: data.to_vec() };
                self.used += chunk.cost();
                self.chunks.push_back(chunk);
            }
        }
        while self.used > self.room
            && let Some(oldest) = self.chunks.pop_front()
        {
            self.used -= oldest.cost();
        }
    }

    /// The output could not be read at all.
    pub(super) fn has_lost_all(&mut self) {
        self.lost |= self.open > 0;
        self.open = 0;
    }

    /// Bytes, and what chunks cost.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Bytes that were ever added.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// One of the streams has ended.
    pub(super) fn close(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    /// What a reader reads next, which it then has read. None if there is nothing at the moment, or ever.
    pub(super) fn read(&self, place: &mut Place) -> Option<Piece> {
        let oldest = self.chunks.front().map_or(self.end, |chunk| chunk.start);
        let at = match *place {
            Place::Beginning if self.lost => {
                *place = Place::At(oldest);
                return Some(Piece::Gap(None));
            }
            Place::Beginning => 0,
            Place::At(at) => at,
            Place::End => return None,
        };
        if at < oldest {
            *place = Place::At(oldest);
            return Some(Piece::Gap(Some(oldest - at)));
        }
        let next = self.chunks.partition_point(|chunk| chunk.end() <= at);
        if let Some(chunk) = self.chunks.get(next) {
            *place = Place::At(chunk.end());
            let read = usize::try_from(at - chunk.start).unwrap_or_default();
            return Some(Piece::Output { stream: chunk.stream, data: chunk.data[read..].to_vec() });
        }
        if self.open == 0 {
            *place = Place::End;
            return Some(Piece::End);
        }
        *place = Place::At(at);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{OutputStream::*, *};

    fn output(stream: OutputStream, text: &str) -> Option<Piece> {
        Some(Piece::Output { stream, data: text.into() })
    }

    #[test]
    fn every_reader_reads_all_in_order_and_the_end() {
        let mut ring = Ring::new(4096, 2, false);
        let (mut early, mut late) = (Place::Beginning, Place::Beginning);
        assert_eq!(ring.read(&mut early), None);
        ring.push(Stdout, b"a");
        assert_eq!(ring.read(&mut early), output(Stdout, "a"));
        ring.push(Stdout, b"b");
        ring.push(Stderr, b"c");
        // Of a chunk that has grown, the rest.
        assert_eq!(ring.read(&mut early), output(Stdout, "b"));
        assert_eq!(ring.read(&mut early), output(Stderr, "c"));
        ring.close();
        assert_eq!(ring.read(&mut early), None);
        ring.push(Stdout, b"d");
        ring.close();
        for text in [(Stdout, "ab"), (Stderr, "c"), (Stdout, "d")] {
            assert_eq!(ring.read(&mut late), output(text.0, text.1));
        }
        assert_eq!(ring.read(&mut early), output(Stdout, "d"));
        for place in [&mut early, &mut late] {
            assert_eq!((ring.read(place), ring.read(place)), (Some(Piece::End), None));
        }
    }

    #[test]
    fn who_is_too_slow_is_told_how_much_is_missing() {
        let mut ring = Ring::new(2 * (JOINED + COST), 1, false);
        let mut place = Place::Beginning;
        ring.push(Stdout, b"x");
        assert_eq!(ring.read(&mut place), output(Stdout, "x"));
        for letter in [b'a', b'b', b'c'] {
            ring.push(Stdout, &[letter; JOINED]);
        }
        assert_eq!(ring.read(&mut place), Some(Piece::Gap(Some(JOINED as u64))));
        assert_eq!(ring.read(&mut place), output(Stdout, &"b".repeat(JOINED)));
        let mut late = Place::Beginning;
        assert_eq!(ring.read(&mut late), Some(Piece::Gap(Some(JOINED as u64 + 1))));
    }

    #[test]
    fn what_is_kept_has_a_bound_whatever_is_written() {
        let mut ring = Ring::new(64 << 10, 2, false);
        for n in 0..100_000 {
            ring.push(if n % 2 == 0 { Stdout } else { Stderr }, b"x");
        }
        assert!(ring.chunks.len() <= (64 << 10) / COST, "{}", ring.chunks.len());
        // Also of what is longer than all the room.
        ring.push(Stdout, &[0; 128 << 10]);
        assert_eq!((ring.used, ring.chunks.len()), (0, 0));
        let mut place = Place::At(100_000);
        assert_eq!(ring.read(&mut place), Some(Piece::Gap(Some(128 << 10))));
        assert_eq!(ring.read(&mut place), None);
    }

    #[test]
    fn what_an_earlier_server_has_read_is_missing() {
        let mut ring = Ring::new(4096, 1, true);
        let mut place = Place::Beginning;
        ring.push(Stdout, b"x");
        assert_eq!(ring.read(&mut place), Some(Piece::Gap(None)));
        assert_eq!(ring.read(&mut place), output(Stdout, "x"));
        // Nothing, if its output is not held.
        assert_eq!(Ring::new(4096, 0, true).read(&mut Place::Beginning), Some(Piece::End));
    }
}
