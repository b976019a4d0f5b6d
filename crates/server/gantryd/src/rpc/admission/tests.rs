//! Every field of every request is bounded, and nothing else is refused.

use std::sync::Arc;

use gantry_api::{FILE_DESCRIPTOR_SET, containerd::containers::Container, types};
use proptest::prelude::*;
use prost::Message;
use prost_types::Any;

use super::{
    scan::{Refusal, Scan},
    shape::{self, Field, Kind, Shape},
};

fn shapes() -> Vec<(String, Arc<Shape>)> {
    shape::all(FILE_DESCRIPTOR_SET).unwrap().into_iter().collect()
}

fn shape_of(method: &str) -> Arc<Shape> {
    let path = format!("/types.API/{method}");
    shapes().into_iter().find(|(name, _)| *name == path).unwrap().1
}

/// Reads in pieces of this size.
fn scan(shape: &Arc<Shape>, message: &[u8], piece: usize) -> Result<u64, Refusal> {
    let mut scan = Scan::new(Arc::clone(shape), message.len() as u64);
    for piece in message.chunks(piece) {
        scan.read(piece)?;
    }
    Ok(scan.items())
}

fn varint(mut value: u64, into: &mut Vec<u8>) {
    while value >= 0x80 {
        into.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    into.push(u8::try_from(value).unwrap());
}

/// A field with this content, preceded by its length.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    varint(number << 3 | 2, &mut bytes);
    varint(content.len() as u64, &mut bytes);
    bytes.extend_from_slice(content);
    bytes
}

/// All fields of a request, each with the numbers of the messages it is in, outermost first.
fn leaves(shape: &Shape, message: usize, outer: &[u64], found: &mut Vec<(Vec<u64>, Field)>) {
    for field in shape.fields(message) {
        found.push((outer.to_vec(), *field));
        if let Kind::Message(inner) = field.kind {
            let outer = [outer, &[field.number]].concat();
            leaves(shape, inner, &outer, found);
        }
    }
}

fn within(outer: &[u64], content: Vec<u8>) -> Vec<u8> {
    outer.iter().rev().fold(content, |content, number| field(*number, &content))
}

#[track_caller]
fn assert_names(result: Result<u64, Refusal>, path: &str) {
    match result {
        Err(Refusal::Field { path: named, .. }) => assert_eq!(named, path),
        other => panic!("{path}: {other:?}"),
    }
}

#[test]
fn every_field_of_every_request_is_bounded() {
    let shapes = shapes();
    assert_eq!(shapes.len(), 12);
    for (_, shape) in shapes {
        let mut fields = Vec::new();
        leaves(&shape, 0, &[], &mut fields);
        for (outer, Field { number, kind, slot }) in fields {
            let slot = &shape.slots[slot];
            let most = usize::try_from(slot.bounds.items).unwrap();
            assert!(most <= 256 << 10, "{}", slot.path);
            let many = within(&outer, field(number, b"").repeat(most));
            let more = within(&outer, field(number, b"").repeat(most + 1));
            match kind {
                Kind::Bytes => {
                    let each = usize::try_from(slot.bounds.each).unwrap();
                    let long = within(&outer, field(number, &vec![b'x'; each]));
                    assert_eq!(scan(&shape, &long, 4096), Ok(1 + outer.len() as u64));
                    let longer = within(&outer, field(number, &vec![b'x'; each + 1]));
                    assert_names(scan(&shape, &longer, 4096), &slot.path);
                    let all = usize::try_from(slot.bounds.all).unwrap() / each + 1;
                    let heavy = within(&outer, field(number, &vec![b'x'; each]).repeat(all));
                    assert_names(scan(&shape, &heavy, 4096), &slot.path);
                }
                Kind::Varint => {
                    let packed = within(&outer, field(number, &vec![1; most + 1]));
                    assert_names(scan(&shape, &packed, 100), &slot.path);
                    let plain: Vec<u8> =
                        [u8::try_from(number << 3).unwrap_or(0x98), 1].repeat(most + 1);
                    if number < 16 {
                        assert_names(scan(&shape, &within(&outer, plain), 100), &slot.path);
                    }
                    continue;
                }
                Kind::Fixed(width) => {
                    let width = usize::try_from(width).unwrap();
                    let packed = within(&outer, field(number, &vec![1; width * (most + 1)]));
                    assert_names(scan(&shape, &packed, 100), &slot.path);
                    continue;
                }
                Kind::Message(_) => {}
            }
            assert_eq!(scan(&shape, &many, 4096), Ok(most as u64 + outer.len() as u64));
            assert_names(scan(&shape, &more, 4096), &slot.path);
        }
        // Fields of later versions.
        assert_names(scan(&shape, &field(1000, b"").repeat(1025), 7), "unknown fields");
        assert_names(scan(&shape, &field(1000, &[0; 4097]), 7), "unknown fields");
    }
}

#[test]
fn requests_of_containerd_have_bounds_of_their_own() {
    let shapes = shape::all(gantry_api::containerd::FILE_DESCRIPTOR_SET).unwrap();
    assert_eq!(shapes.len(), 69);
    let create = &shapes["/containerd.services.containers.v1.Containers/Create"];
    let scanned = |container: &Container| scan(create, &field(1, &container.encode_to_vec()), 4096);
    let any = |length| Any { type_url: "t".to_owned(), value: vec![b'x'; length] };
    let container = Container {
        labels: (0..10_000).map(|n| (format!("label-{n}"), "v".repeat(100))).collect(),
        spec: Some(any(1 << 20)),
        ..Container::default()
    };
    assert!(scanned(&container).is_ok());
    let label = ("l".to_owned(), "v".repeat((64 << 10) + 1));
    let labels = [label].into();
    let long_label = Container { labels, ..Container::default() };
    assert_names(scanned(&long_label), "container.labels.value");
    let large_spec = Container { spec: Some(any((16 << 20) + 1)), ..Container::default() };
    assert_names(scanned(&large_spec), "container.spec.value");
    let extensions = (0..1025).map(|n| (n.to_string(), any(0))).collect();
    let many_extensions = Container { extensions, ..Container::default() };
    assert_names(scanned(&many_extensions), "container.extensions");
    let list = &shapes["/containerd.services.containers.v1.Containers/List"];
    assert_names(scan(list, &field(1, &[b'x'; 40 << 10]).repeat(2), 4096), "filters");
}

/// What the request of a call is about, if its bytes come in pieces of this size.
fn subject(call: &str, message: &[u8], piece: usize) -> Option<String> {
    let shape = Arc::clone(&shape::all(gantry_api::containerd::FILE_DESCRIPTOR_SET).unwrap()[call]);
    let mut scan = Scan::new(shape, message.len() as u64).with_subject(true);
    let found = message.chunks(piece).map(|piece| {
        scan.read(piece).unwrap();
        scan.subject()
    });
    found.flatten().last()
}

/// The last of several, as for who decodes the request: nobody has another name logged than what is acted on.
#[test]
fn what_a_request_is_about_is_found_in_any_pieces() {
    let key = |key: &str| [field(1, b"overlayfs"), field(2, key.as_bytes())].concat();
    let nested = |name: &str| field(1, &field(1, name.as_bytes()));
    for (call, message, expected) in [
        ("tasks.v1.Tasks/Kill", [field(1, b"c"), field(2, b"exec")].concat(), Some("c")),
        ("tasks.v1.Tasks/Kill", [field(2, b"exec"), field(1, b"later")].concat(), Some("later")),
        ("tasks.v1.Tasks/Kill", [field(1, b"first"), field(1, b"x")].concat(), Some("x")),
        ("tasks.v1.Tasks/Kill", [field(1, b"first"), field(1, b"")].concat(), Some("")),
        ("tasks.v1.Tasks/Kill", field(1, "x".repeat(300).as_bytes()), Some(&"x".repeat(256))),
        ("tasks.v1.Tasks/Kill", field(1, b"\xff"), Some("\u{fffd}")),
        ("tasks.v1.Tasks/Kill", Vec::new(), None),
        ("containers.v1.Containers/Create", nested("c1"), Some("c1")),
        ("containers.v1.Containers/Create", [nested("c1"), nested("c2")].concat(), Some("c2")),
        ("containers.v1.Containers/Delete", field(1, b"c1"), Some("c1")),
        ("images.v1.Images/Update", nested("docker.io/library/a:1"), Some("docker.io/library/a:1")),
        ("namespaces.v1.Namespaces/Create", nested("moby"), Some("moby")),
        ("snapshots.v1.Snapshots/Remove", key("layer"), Some("layer")),
        ("content.v1.Content/Delete", field(1, b"sha256:0"), Some("sha256:0")),
    ] {
        for piece in [1, 3, 1000] {
            let found = subject(&format!("/containerd.services.{call}"), &message, piece);
            assert_eq!(found.as_deref(), expected, "{call} {message:?} {piece}");
        }
    }
}

/// However many lists they are in.
#[test]
fn items_are_counted_over_the_whole_request() {
    let shape = shape_of("AddProcess");
    let user = types::User { additional_gids: vec![1; 1000], ..types::User::default() };
    let user = field(3, &user.encode_to_vec());
    assert_eq!(scan(&shape, &user.repeat(60), 100), Ok(60 * 1001));
    assert_names(scan(&shape, &user.repeat(70), 100), "user.additionalGids");
}

#[test]
fn what_costs_too_much_is_refused_at_once() {
    let shape = shape_of("AddProcess");
    let begin = field(11, b"").repeat(8000);
    let mut scan = Scan::new(Arc::clone(&shape), 40 << 20);
    assert!(scan.read(&begin).is_err());
    // Not even the string itself has to arrive.
    let mut scan = Scan::new(shape, 60 << 20);
    assert!(scan.read(&[2 << 3 | 2 | 4 << 3, 0xff, 0xff, 0xff, 0x0f]).is_err());
}

fn request() -> types::AddProcessRequest {
    types::AddProcessRequest {
        id: "c".to_owned(),
        terminal: true,
        user: Some(types::User { uid: 7, gid: 1 << 31, additional_gids: vec![1, 300, 1 << 31] }),
        args: vec!["sh".to_owned(), String::new(), "x".repeat(300)],
        env: vec!["A=b".to_owned(); 9],
        cwd: "/".to_owned(),
        pid: "p".to_owned(),
        capabilities: vec!["CAP_KILL".to_owned()],
        no_new_privileges: true,
        rlimits: vec![types::Rlimit { r#type: "RLIMIT_CORE".to_owned(), soft: 1, hard: u64::MAX }],
        ..types::AddProcessRequest::default()
    }
}

#[test]
fn an_ordinary_request_is_read_in_any_pieces() {
    let bytes = request().encode_to_vec();
    for piece in 1..bytes.len() {
        assert_eq!(scan(&shape_of("AddProcess"), &bytes, piece), Ok(28), "{piece}");
    }
}

proptest! {
    /// What protobuf can read is not called malformed: the two agree on where fields begin.
    #[test]
    fn bytes_that_are_a_message_are_read(
        mut bytes in prop::collection::vec(any::<u8>(), 0..40),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        made in any::<bool>(),
        piece in 1..50_usize,
    ) {
        if made {
            bytes = request().encode_to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
        }
        let result = scan(&shape_of("AddProcess"), &bytes, piece);
        if types::AddProcessRequest::decode(&*bytes).is_ok() && !has_group(&bytes) {
            prop_assert_ne!(result, Err(Refusal::Malformed));
        }
    }
}

/// Groups are of proto2: protobuf skips them.
fn has_group(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| matches!(byte & 7, 3 | 4))
}
