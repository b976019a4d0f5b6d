//! What h2 reads of a client's requests after the filter.

use std::{collections::VecDeque, mem};

use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use tonic::{codegen::http::Response, transport::server::Connected};

use super::LocalAuthority;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

/// How a field is written.
#[derive(Clone, Copy, Debug)]
struct Style {
    representation: Representation,
    /// Whether the name is looked up in the tables.
    name_indexed: bool,
    huffman: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Representation {
    Incremental,
    Unindexed,
    NeverIndexed,
}

use Representation::{Incremental, NeverIndexed, Unindexed};

/// An encoder that keeps account of the dynamic table as RFC 7541 §4 says.
struct Encoder {
    table: VecDeque<(String, String)>,
    limit: usize,
    block: Vec<u8>,
}

impl Encoder {
    fn resize(&mut self, limit: usize) {
        self.integer(0x20, 5, limit);
        self.limit = limit;
        self.shrink_to(limit);
    }

    fn field(&mut self, name: &str, value: &str, style: Style) {
        let known = |(n, v): &(String, String)| n == name && v == value;
        if style.representation == Incremental
            && let Some(index) = self.table.iter().position(known)
        {
            return self.integer(0x80, 7, 62 + index);
        }
        let (first, prefix) = match style.representation {
            Incremental => (0x40, 6),
            Unindexed => (0, 4),
            NeverIndexed => (0x10, 4),
        };
        let dynamic = self.table.iter().position(|(n, _)| n == name).map(|index| 62 + index);
        let fixed = match name {
            ":authority" => Some(1),
            ":path" => Some(4),
            _ => None,
        };
        let index = dynamic.or(fixed).filter(|_| style.name_indexed);
        self.integer(first, prefix, index.unwrap_or(0));
        if index.is_none() {
            self.plain(name);
        }
        if style.huffman {
            self.huffman(value);
        } else {
            self.plain(value);
        }
        if style.representation == Incremental {
            self.insert(name, value);
        }
    }

    fn insert(&mut self, name: &str, value: &str) {
        let size = name.len() + value.len() + 32;
        self.shrink_to(self.limit.saturating_sub(size));
        if size <= self.limit {
            self.table.push_front((name.to_owned(), value.to_owned()));
        }
    }

    fn shrink_to(&mut self, limit: usize) {
        let size = |(name, value): &(String, String)| name.len() + value.len() + 32;
        while self.table.iter().map(size).sum::<usize>() > limit {
            self.table.pop_back();
        }
    }

    fn integer(&mut self, first: u8, prefix: u32, value: usize) {
        let max = (1 << prefix) - 1;
        if value < max {
            return self.block.push(first | u8::try_from(value).unwrap());
        }
        self.block.push(first | u8::try_from(max).unwrap());
        let mut rest = value - max;
        while rest >= 0x80 {
            self.block.push(u8::try_from(rest & 0x7f).unwrap() | 0x80);
            rest >>= 7;
        }
        self.block.push(u8::try_from(rest).unwrap());
    }

    fn plain(&mut self, text: &str) {
        self.integer(0, 7, text.len());
        self.block.extend_from_slice(text.as_bytes());
    }

    fn huffman(&mut self, text: &str) {
        let mut bits: Vec<u8> = text.bytes().flat_map(|b| code(b).bytes()).collect();
        bits.resize(bits.len().next_multiple_of(8), b'1');
        let bytes = bits.chunks(8).map(|bits| bits.iter().fold(0, |byte, b| byte << 1 | (b & 1)));
        let bytes: Vec<u8> = bytes.collect();
        self.integer(0x80, 7, bytes.len());
        self.block.extend_from_slice(&bytes);
    }
}

/// A few codes of RFC 7541, appendix B, the longest among them.
fn code(byte: u8) -> &'static str {
    match byte {
        b'a' => "00011",
        b'e' => "00101",
        b's' => "01000",
        b'.' => "010111",
        b'/' => "011000",
        b'\\' => "1111111111111110000",
        b'\n' => "111111111111111111111111111100",
        _ => unreachable!("{byte} is in no test"),
    }
}

#[derive(Clone, Debug)]
struct Request {
    table_limit: Option<usize>,
    authority: (String, Style),
    path: (String, Style),
    fields: Vec<(String, String, Style)>,
}

impl Request {
    fn encode(&self, encoder: &mut Encoder) -> Vec<u8> {
        if let Some(limit) = self.table_limit {
            encoder.resize(limit);
        }
        // POST over http.
        encoder.block.extend_from_slice(&[0x83, 0x86]);
        encoder.field(":path", &self.path.0, self.path.1);
        encoder.field(":authority", &self.authority.0, self.authority.1);
        for (name, value, style) in &self.fields {
            encoder.field(name, value, *style);
        }
        mem::take(&mut encoder.block)
    }

    /// The path and the fields in the order of their names.
    fn expected(&self) -> (String, Vec<(String, String)>) {
        let mut fields: Vec<_> =
            self.fields.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect();
        fields.sort();
        (self.path.0.clone(), fields)
    }
}

fn style(huffman: impl Strategy<Value = bool>) -> impl Strategy<Value = Style> {
    let representation = prop_oneof![
        4 => Just(Incremental),
        1 => Just(Unindexed),
        1 => Just(NeverIndexed),
    ];
    (representation, any::<bool>(), huffman).prop_map(|(representation, name_indexed, huffman)| {
        Style { representation, name_indexed, huffman }
    })
}

fn request() -> impl Strategy<Value = Request> {
    // Few of each, so that they come again.
    let authority =
        prop_oneof!["[aes./]{1,12}", "[aes./\\\\\n]{1,12}", Just("/sea.e/a.ess".to_owned()),];
    let field = ("x[0-3]", "v{0,40}", style(Just(false)));
    let limit = prop_oneof![2 => Just(None), 1 => (0..400_usize).prop_map(Some)];
    let fields = vec(field, 0..6);
    (limit, (authority, style(any::<bool>())), ("/[a-c]", style(Just(false))), fields).prop_map(
        |(table_limit, authority, path, fields)| Request { table_limit, authority, path, fields },
    )
}

type Received = (String, (String, Vec<(String, String)>));

/// The authority, the path and the sorted fields of each request that is not refused.
async fn received(requests: &[Request]) -> Vec<Received> {
    let (mut client, server) = UnixStream::pair().unwrap();
    let serve = async {
        let mut connection = h2::server::handshake(LocalAuthority::new(server)).await.unwrap();
        let mut out = Vec::new();
        loop {
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            respond.send_response(Response::new(()), true).unwrap();
            let uri = request.uri();
            let Some(authority) = uri.authority() else { return out };
            let mut fields = Vec::new();
            for (name, value) in request.headers() {
                fields.push((name.to_string(), value.to_str().unwrap().to_owned()));
            }
            fields.sort();
            out.push((authority.to_string(), (uri.path().to_owned(), fields)));
        }
    };
    let sent = sent(requests);
    let (sent, out) = tokio::join!(client.write_all(&sent), serve);
    sent.unwrap();
    out
}

/// All that a client sends, with a last request without an authority after the others.
fn sent(requests: &[Request]) -> Vec<u8> {
    let mut encoder = Encoder { table: VecDeque::new(), limit: 4096, block: Vec::new() };
    let mut bytes = [PREFACE, SETTINGS].concat();
    let mut stream = 1;
    for request in requests {
        bytes.extend(frame(&request.encode(&mut encoder), stream));
        stream += 2;
    }
    bytes.extend(frame(&[0x83, 0x86, 0x84], stream));
    bytes
}

fn frame(block: &[u8], stream: u32) -> Vec<u8> {
    let [.., a, b, c] = block.len().to_be_bytes();
    [&[a, b, c, 1, 5][..], &stream.to_be_bytes(), block].concat()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(future)
}

proptest! {
    #[test]
    fn requests_arrive_with_another_authority_and_nothing_else_changed(
        requests in vec(request(), 1..12),
    ) {
        let received = block_on(received(&requests));
        prop_assert_eq!(received.len(), requests.len());
        for ((authority, rest), sent) in received.iter().zip(&requests) {
            prop_assert!(["localhost", "l"].contains(&authority.as_str()));
            prop_assert_eq!(rest, &sent.expected());
        }
    }
}

#[tokio::test]
async fn what_the_client_refers_to_is_kept_in_a_table_that_is_just_full() {
    let style = Style { representation: Incremental, name_indexed: true, huffman: false };
    let unindexed = Style { representation: Unindexed, ..style };
    for (byte, huffman) in [("/", false), ("/", true), ("\n", true)] {
        for len in 1..40 {
            let first = Request {
                table_limit: Some("x".len() + "v".len() + 32 + ":authority".len() + len + 32),
                authority: ("e".to_owned(), unindexed),
                path: ("/".to_owned(), unindexed),
                fields: vec![("x".to_owned(), "v".to_owned(), style)],
            };
            let mut second = first.clone();
            second.table_limit = None;
            second.authority = (byte.repeat(len), Style { huffman, ..style });
            let requests = [first, second];
            let received = received(&requests).await;
            assert_eq!(received.len(), 2);
            assert_eq!(received[1].1, requests[1].expected());
        }
    }
}

async fn read_all(input: &[u8]) -> Vec<u8> {
    let (mut client, server) = UnixStream::pair().unwrap();
    client.write_all(input).await.unwrap();
    drop(client);
    let mut out = Vec::new();
    LocalAuthority::new(server).read_to_end(&mut out).await.unwrap();
    out
}

#[tokio::test]
async fn a_client_of_something_else_is_passed_on() {
    let input = b"GET / HTTP/1.1\r\nhost: /run/a.sock\r\n\r\n";
    assert_eq!(read_all(input).await, input);
}

#[tokio::test]
async fn what_is_held_back_comes_before_the_end() {
    let input = [PREFACE, SETTINGS, b"\0\0\x12\x01\x05\0\0\0\x01\x41\x10/run/gant"].concat();
    assert_eq!(read_all(&input).await, input);
}

#[tokio::test]
async fn the_peer_is_known() {
    let (_client, server) = UnixStream::pair().unwrap();
    let info = LocalAuthority::new(server).connect_info();
    assert_eq!(info.peer_cred.unwrap().pid(), i32::try_from(std::process::id()).ok());
}
