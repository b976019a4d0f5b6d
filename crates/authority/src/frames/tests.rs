//! Frames in whatever pieces they are read.

use proptest::{collection::vec, prelude::*};

use super::*;

const AUTHORITY: &[u8] = b"\x41\x10/run/gantry.sock";
const LOCALHOST: &[u8] = b"\x41\x09localhost";

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Head { len: payload.len(), kind, flags, stream: [0, 0, 0, 1] }.put(&mut out);
    [&out, payload].concat()
}

/// What passes of `input`, read in pieces of these sizes and drained a few bytes at a time.
fn passed_on(input: &[u8], sizes: &[usize]) -> Vec<u8> {
    let mut frames = Frames::default();
    let mut out = Vec::new();
    let mut rest = input;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let len = sizes.next().map_or(rest.len(), |size| rest.len().min(*size));
        let (read, next) = rest.split_at(len);
        let passed = frames.take(read);
        out.extend_from_slice(&read[..passed]);
        drain(&mut frames, &mut out);
        rest = next;
    }
    frames.finish();
    drain(&mut frames, &mut out);
    out
}

fn drain(frames: &mut Frames, out: &mut Vec<u8>) {
    let mut buf = [0; 7];
    loop {
        let mut buf = ReadBuf::new(&mut buf);
        if !frames.drain(&mut buf) {
            return;
        }
        out.extend_from_slice(buf.filled());
    }
}

fn after_preface(frames: &[Vec<u8>]) -> Vec<u8> {
    let out = passed_on(&[PREFACE, &frames.concat()].concat(), &[]);
    out.strip_prefix(PREFACE).unwrap().to_vec()
}

#[test]
fn data_is_passed_in_place_and_only_what_follows_a_block_is_copied() {
    let mut frames = Frames::default();
    let data = frame(0, 0, &[7; 1000]);
    assert_eq!(frames.take(&[PREFACE, &data, &data[..500]].concat()), 24 + 1009 + 500);
    let block = frame(HEADERS, END_HEADERS, AUTHORITY);
    assert_eq!(frames.take(&[&data[500..], &block, &data].concat()), 509);
    assert_eq!(frames.ready.len(), HEAD_LEN + LOCALHOST.len() + data.len());
    drain(&mut frames, &mut Vec::new());
    assert_eq!(frames.take(&data), data.len());
}

#[test]
fn padding_goes_and_priority_stays() {
    let payload = [&[3][..], b"PRIOR", AUTHORITY, &[0; 3]].concat();
    let given = frame(HEADERS, END_HEADERS | PADDED | PRIORITY | 1, &payload);
    let expected = frame(HEADERS, END_HEADERS | PRIORITY | 1, &[b"PRIOR", LOCALHOST].concat());
    assert_eq!(after_preface(&[given]), expected);
}

#[test]
fn a_block_is_rewritten_wherever_it_is_split() {
    for at in 0..=AUTHORITY.len() {
        let (head, tail) = AUTHORITY.split_at(at);
        let given = [
            frame(HEADERS, 1, head),
            frame(CONTINUATION, 0, b""),
            frame(CONTINUATION, END_HEADERS, tail),
        ];
        let expected = frame(HEADERS, END_HEADERS | 1, LOCALHOST);
        assert_eq!(after_preface(&given), expected, "{at}");
    }
}

#[test]
fn a_large_block_stays_in_frames_a_server_accepts() {
    // A string of 20,000 bytes.
    let field = [&b"\x00\x01a\x7f\xa1\x9b\x01"[..], &[b'x'; 20_000]].concat();
    let block = [AUTHORITY, &field].concat();
    let (head, tail) = block.split_at(MAX_PAYLOAD);
    let given = [frame(HEADERS, 0, head), frame(CONTINUATION, END_HEADERS, tail)];
    let block = [LOCALHOST, &field].concat();
    let (head, tail) = block.split_at(MAX_PAYLOAD);
    let expected = [frame(HEADERS, 0, head), frame(CONTINUATION, END_HEADERS, tail)];
    assert_eq!(after_preface(&given), expected.concat());
}

#[test]
fn what_h2_refuses_anyway_reaches_it_untouched() {
    let authority = frame(HEADERS, END_HEADERS, AUTHORITY);
    let other_stream = [&[0, 0, 18, CONTINUATION, END_HEADERS, 0, 0, 0, 3], AUTHORITY].concat();
    let mut endless = vec![frame(HEADERS, 0, AUTHORITY)];
    endless.resize(6, frame(CONTINUATION, 0, &[b'x'; MAX_PAYLOAD]));
    for frames in [
        vec![frame(HEADERS, END_HEADERS, &[b'x'; MAX_PAYLOAD + 1]), authority.clone()],
        vec![frame(HEADERS, 0, AUTHORITY), frame(0, 0, b"data"), authority.clone()],
        vec![frame(HEADERS, 0, b""), other_stream],
        vec![frame(HEADERS, END_HEADERS | PADDED, b"\xffabc")],
        vec![frame(HEADERS, END_HEADERS | PRIORITY, b"abc")],
        vec![frame(CONTINUATION, END_HEADERS, AUTHORITY)],
        vec![frame(HEADERS, END_HEADERS, &AUTHORITY[..4])],
        vec![authority[..12].to_vec()],
        vec![authority[..4].to_vec()],
        endless,
    ] {
        assert_eq!(after_preface(&frames), frames.concat());
    }
}

#[test]
fn nothing_is_looked_for_without_the_preface() {
    let frame = frame(HEADERS, END_HEADERS, AUTHORITY);
    for start in [&b"GET / HTTP/1.1\r\n"[..], &PREFACE[..23], b"PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n"] {
        let input = [start, &frame].concat();
        assert_eq!(passed_on(&input, &[]), input);
    }
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let field = prop_oneof![
        Just(AUTHORITY.to_vec()),
        Just(b"\x83".to_vec()),
        Just(b"\x40\x0a:authority\x01x".to_vec()),
        vec(any::<u8>(), 0..4),
    ];
    let block = vec(field, 0..4).prop_map(|fields| fields.concat());
    let payload = prop_oneof![block, vec(any::<u8>(), 0..40)];
    let flags = prop_oneof![Just(END_HEADERS), any::<u8>()];
    (0..11_u8, flags, payload).prop_map(|(kind, flags, payload)| frame(kind, flags, &payload))
}

/// The frames that have no part in a header block.
fn others(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    while let Some(head) = Head::parse(bytes) {
        let (frame, rest) = bytes.split_at(HEAD_LEN + head.len);
        if !matches!(head.kind, HEADERS | CONTINUATION) {
            out.push(frame);
        }
        bytes = rest;
    }
    out
}

proptest! {
    #[test]
    fn other_frames_pass_untouched_however_they_are_read(
        frames in vec(any_frame(), 0..8),
        sizes in vec(1..50_usize, 1..8),
    ) {
        let frames = frames.concat();
        let input = [PREFACE, &frames].concat();
        let whole = passed_on(&input, &[]);
        prop_assert_eq!(&passed_on(&input, &sizes), &whole);
        prop_assert_eq!(others(&whole[PREFACE.len()..]), others(&frames));
    }

    #[test]
    fn any_bytes_give_the_same_however_they_are_read(
        is_http2: bool,
        bytes in vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..200),
        sizes in vec(1..50_usize, 1..8),
    ) {
        let preface = if is_http2 { PREFACE } else { &[] };
        let input = [preface, &bytes].concat();
        let whole = passed_on(&input, &[]);
        prop_assert_eq!(&passed_on(&input, &sizes), &whole);
        if !is_http2 {
            prop_assert_eq!(whole, input);
        }
    }
}
