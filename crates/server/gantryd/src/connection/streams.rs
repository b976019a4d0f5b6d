//! Which HTTP/2 streams of a connection are open, from the heads of the frames that pass (RFC 9113
//! §4.1, §5.1).

use std::collections::BTreeSet;

/// Bytes that a client sends before its first frame.
const PREFACE_LEN: usize = 24;

/// Bytes before the payload of each frame.
const HEAD_LEN: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 0x1;

/// The requests that were read from a client and whose answer was not wholly written yet.
pub(super) struct OpenStreams {
    from_client: Scanner,
    to_client: Scanner,
    open: BTreeSet<u32>,
    /// The highest stream so far. Clients number their streams upwards: a number that is not higher is no new stream.
    last: u32,
}

impl Default for OpenStreams {
    fn default() -> Self {
        Self {
            from_client: Scanner { skip: PREFACE_LEN, head: Vec::new() },
            to_client: Scanner { skip: 0, head: Vec::new() },
            open: BTreeSet::new(),
            last: 0,
        }
    }
}

impl OpenStreams {
    /// Takes what was read from the client next. Returns how many streams are open.
    pub(super) fn read(&mut self, bytes: &[u8]) -> usize {
        let Self { from_client, open, last, .. } = self;
        from_client.scan(bytes, |frame| match frame.kind {
            HEADERS if frame.stream > *last => {
                *last = frame.stream;
                open.insert(frame.stream);
            }
            RST_STREAM => {
                open.remove(&frame.stream);
            }
            _ => {}
        });
        open.len()
    }

    /// Takes what was written to the client next. Returns how many streams are open.
    pub(super) fn written(&mut self, bytes: &[u8]) -> usize {
        let Self { to_client, open, .. } = self;
        to_client.scan(bytes, |frame| {
            let ends = match frame.kind {
                DATA | HEADERS => frame.flags & END_STREAM != 0,
                kind => kind == RST_STREAM,
            };
            if ends {
                open.remove(&frame.stream);
            }
        });
        open.len()
    }
}

/// Finds the heads of frames in bytes that come in pieces.
struct Scanner {
    /// How much comes before the next head.
    skip: usize,
    /// The beginning of a head.
    head: Vec<u8>,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Scanner {
    /// Calls `found` for each frame once its last byte is there: a frame that was written in part was
    /// not written yet.
    fn scan(&mut self, mut bytes: &[u8], mut found: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip > 0 {
                return;
            }
            if let Some(frame) = self.take_head() {
                found(frame);
            }
            if bytes.is_empty() {
                return;
            }
            let (begun, rest) = bytes.split_at((HEAD_LEN - self.head.len()).min(bytes.len()));
            self.head.extend_from_slice(begun);
            bytes = rest;
            if let Some(&[a, b, c, ..]) = self.head.first_chunk::<HEAD_LEN>() {
                self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            }
        }
    }

    /// The frame whose payload was skipped, if there was one.
    fn take_head(&mut self) -> Option<Frame> {
        let &[_, _, _, kind, flags, stream @ ..] = self.head.first_chunk::<HEAD_LEN>()?;
        self.head.clear();
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        Some(Frame { kind, flags, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let len = u8::try_from(payload.len()).unwrap();
        [&[0, 0, len, kind, flags, 0, 0, 0, stream], payload].concat()
    }

    fn open(streams: &mut OpenStreams) -> Vec<u32> {
        streams.open.iter().copied().collect()
    }

    #[test]
    fn streams_open_and_close_whatever_the_pieces() {
        let begin = [vec![b'x'; PREFACE_LEN], frame(4, 0, 0, &[0; 6])].concat();
        let one = frame(HEADERS, 4, 1, b"block");
        let three = frame(HEADERS, 5, 3, b"block");
        let input = [begin, one, frame(DATA, END_STREAM, 1, b"data"), three].concat();
        let head = frame(HEADERS, 4, 1, b"ok");
        let output = [frame(4, 0, 0, b""), head, frame(DATA, 0, 1, b"data")].concat();
        let trailers = frame(HEADERS, 4 | END_STREAM, 1, b"trailers");
        for size in [1, 2, 5, 9, 10, 1000] {
            let mut streams = OpenStreams::default();
            for piece in input.chunks(size) {
                streams.read(piece);
            }
            for piece in output.chunks(size) {
                streams.written(piece);
            }
            assert_eq!(open(&mut streams), [1, 3]);
            let (most, last) = trailers.split_at(trailers.len() - 1);
            assert_eq!(streams.written(most), 2, "the last byte is not written yet");
            assert_eq!(streams.written(last), 1);
            assert_eq!(open(&mut streams), [3]);
        }
    }

    #[test]
    fn a_reset_of_either_side_closes_and_trailers_of_a_client_open_nothing() {
        let mut streams = OpenStreams::default();
        streams.read(&[0; PREFACE_LEN]);
        for stream in [1, 3, 5] {
            streams.read(&frame(HEADERS, 4, stream, b"b"));
        }
        assert_eq!(streams.read(&frame(RST_STREAM, 0, 3, &[0; 4])), 2);
        assert_eq!(streams.written(&frame(RST_STREAM, 0, 5, &[0; 4])), 1);
        assert_eq!(streams.read(&frame(HEADERS, 5, 3, b"trailers")), 1);
        assert_eq!(open(&mut streams), [1]);
    }
}
