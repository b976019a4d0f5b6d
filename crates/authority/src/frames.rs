//! Finds the header blocks among the bytes an HTTP/2 client sends (RFC 9113 §3.4, §4, §6.2, §6.10).

use std::mem;

use tokio::io::ReadBuf;

use super::hpack::AuthorityRewriter;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is before the payload of each frame.
const HEAD_LEN: usize = 9;

/// The largest payload a server accepts that announces no other limit.
const MAX_PAYLOAD: usize = 16_384;

/// How much of the frames of one block is held back: four times what hyper lets a request's
/// fields take.
const MAX_HELD: usize = 64 << 10;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// The bytes of one connection from its start on, of which only frames with a header block are
/// held back.
#[derive(Debug, Default)]
pub(super) struct Frames {
    phase: Phase,
    /// The beginning of a frame, or of the frames of a header block.
    held: Vec<u8>,
    /// What passes next, after what `take` let pass.
    ready: Vec<u8>,
    drained: usize,
    rewriter: AuthorityRewriter,
}

#[derive(Debug)]
enum Phase {
    Preface {
        matched: usize,
    },
    Head,
    Payload {
        left: usize,
    },
    /// The last frame held begins at `frame`.
    Block {
        frame: usize,
    },
    /// Not HTTP/2, or not any more: everything passes.
    Opaque,
}

impl Default for Phase {
    fn default() -> Self {
        Self::Preface { matched: 0 }
    }
}

/// What became of the first bytes of some input.
enum Step {
    Passed(usize),
    Kept(usize),
}

impl Frames {
    /// Takes what was read next. As many bytes of its beginning as this returns pass unchanged, followed by
    /// whatever `drain` gives.
    pub(super) fn take(&mut self, input: &[u8]) -> usize {
        let mut passed = 0;
        let mut at = 0;
        while at < input.len() {
            match self.step(&input[at..]) {
                Step::Passed(len) => {
                    let end = at + len;
                    if passed == at && self.ready.is_empty() {
                        passed = end;
                    } else {
                        self.ready.extend_from_slice(&input[at..end]);
                    }
                    at = end;
                }
                Step::Kept(len) => at += len,
            }
        }
        passed
    }

    /// Fills `buf` with what is ready, if anything is.
    pub(super) fn drain(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let left = &self.ready[self.drained..];
        if left.is_empty() {
            return false;
        }
        let len = left.len().min(buf.remaining());
        buf.put_slice(&left[..len]);
        self.drained += len;
        if self.drained == self.ready.len() {
            self.ready.clear();
            self.drained = 0;
        }
        true
    }

    /// The client sends no more: what is held passes, if anything is.
    pub(super) fn finish(&mut self) -> bool {
        let any = !self.held.is_empty();
        self.give_up();
        any
    }

    /// Uses at least one byte of `input`, which has some.
    fn step(&mut self, input: &[u8]) -> Step {
        match self.phase {
            Phase::Preface { matched } => self.preface(matched, input),
            Phase::Head => self.head(input),
            Phase::Payload { left } => {
                let len = left.min(input.len());
                self.phase = Phase::payload(left - len);
                Step::Passed(len)
            }
            Phase::Block { frame } => self.block(frame, input),
            Phase::Opaque => Step::Passed(input.len()),
        }
    }

    fn preface(&mut self, matched: usize, input: &[u8]) -> Step {
        let expected = &PREFACE[matched..];
        let len = expected.len().min(input.len());
        self.phase = if expected[..len] != input[..len] {
            Phase::Opaque
        } else if len == expected.len() {
            Phase::Head
        } else {
            Phase::Preface { matched: matched + len }
        };
        Step::Passed(len)
    }

    fn head(&mut self, input: &[u8]) -> Step {
        if self.held.is_empty()
            && let Some(head) = Head::parse(input)
            && head.kind != HEADERS
        {
            self.phase = Phase::payload(head.len);
            return Step::Passed(HEAD_LEN);
        }
        let len = (HEAD_LEN - self.held.len()).min(input.len());
        self.held.extend_from_slice(&input[..len]);
        match Head::parse(&self.held) {
            None => {}
            Some(Head { kind: HEADERS, .. }) => self.decide_block(0),
            Some(Head { len, .. }) => {
                self.ready.append(&mut self.held);
                self.phase = Phase::payload(len);
            }
        }
        Step::Kept(len)
    }

    fn block(&mut self, frame: usize, input: &[u8]) -> Step {
        let begun = &self.held[frame..];
        let whole = Head::parse(begun).map_or(HEAD_LEN, |head| HEAD_LEN + head.len);
        let len = (whole - begun.len()).min(input.len());
        self.held.extend_from_slice(&input[..len]);
        self.decide_block(frame);
        Step::Kept(len)
    }

    /// Decides what to do with the block that is held, whose last frame begins at `frame`.
    fn decide_block(&mut self, frame: usize) {
        self.phase = Phase::Block { frame };
        let Some(first) = Head::parse(&self.held) else { return };
        let Some(head) = Head::parse(&self.held[frame..]) else { return };
        let end = frame + HEAD_LEN + head.len;
        let fits = head.len <= MAX_PAYLOAD && end <= MAX_HELD;
        let expected = frame == 0 || (head.kind == CONTINUATION && head.stream == first.stream);
        if !fits || !expected {
            self.give_up();
        } else if self.held.len() == end {
            if head.flags & END_HEADERS == 0 {
                self.phase = Phase::Block { frame: end };
            } else {
                let frames = mem::take(&mut self.held);
                let rewritten = rewrite(&frames, &mut self.rewriter);
                self.ready.extend_from_slice(rewritten.as_deref().unwrap_or(&frames));
                self.phase = Phase::Head;
            }
        }
    }

    /// From now on everything passes: h2 ends a connection whose frames are malformed, and has to see them as they are.
    fn give_up(&mut self) {
        self.ready.append(&mut self.held);
        self.phase = Phase::Opaque;
    }
}

impl Phase {
    fn payload(left: usize) -> Self {
        if left == 0 { Self::Head } else { Self::Payload { left } }
    }
}

/// What is before the payload of a frame.
struct Head {
    len: usize,
    kind: u8,
    flags: u8,
    stream: [u8; 4],
}

impl Head {
    fn parse(frame: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, stream @ ..] = frame.first_chunk::<HEAD_LEN>()?;
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Some(Self { len, kind, flags, stream })
    }

    fn put(&self, out: &mut Vec<u8>) {
        let [.., a, b, c] = self.len.to_be_bytes();
        out.extend_from_slice(&[a, b, c, self.kind, self.flags]);
        out.extend_from_slice(&self.stream);
    }
}

/// The frames of one block with another authority, without padding. `None` if they need no change,
/// or are malformed.
fn rewrite(frames: &[u8], rewriter: &mut AuthorityRewriter) -> Option<Vec<u8>> {
    let Head { flags, stream, .. } = Head::parse(frames)?;
    let (priority, block) = join(frames)?;
    let payload = [priority, &rewriter.rewrite(&block)?].concat();
    let mut out = Vec::with_capacity(frames.len());
    let mut parts = payload.chunks(MAX_PAYLOAD).peekable();
    let (mut kind, mut flags) = (HEADERS, flags & !(END_HEADERS | PADDED));
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            flags |= END_HEADERS;
        }
        Head { len: part.len(), kind, flags, stream }.put(&mut out);
        out.extend_from_slice(part);
        (kind, flags) = (CONTINUATION, 0);
    }
    Some(out)
}

/// The priority before the block, if there is one, and the block's fragments joined.
fn join(frames: &[u8]) -> Option<(&[u8], Vec<u8>)> {
    let first = Head::parse(frames)?;
    let (payload, mut rest) = frames[HEAD_LEN..].split_at_checked(first.len)?;
    let payload = if first.flags & PADDED == 0 {
        payload
    } else {
        let (&padding, padded) = payload.split_first()?;
        padded.get(..padded.len().checked_sub(padding.into())?)?
    };
    let (priority, fragment) =
        payload.split_at_checked(if first.flags & PRIORITY == 0 { 0 } else { 5 })?;
    let mut block = fragment.to_vec();
    while let Some(head) = Head::parse(rest) {
        let (fragment, next) = rest[HEAD_LEN..].split_at_checked(head.len)?;
        block.extend_from_slice(fragment);
        rest = next;
    }
    Some((priority, block))
}

#[cfg(test)]
mod tests;
