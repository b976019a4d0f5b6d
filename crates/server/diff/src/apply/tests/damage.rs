//! Layers that are damaged, too large, or given up; and what compression does not change.

use std::io::{self, Read, Write};

use gantry_domain::Kind;
use gantry_kernel::small_disk::with_small_disk;

use super::*;

fn some() -> Vec<u8> {
    let noise: Vec<u8> =
        (0..180_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut archive = Tar::default().file("d/file", &noise).file("last", b"1").end();
    // Tools fill up to a block of their own.
    archive.resize(archive.len().next_multiple_of(10_240), 0);
    archive
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

fn into_new(layer: &[u8], options: &ApplyOptions) -> Result<Unpacked, DiffError> {
    let root = tempfile::tempdir().unwrap();
    apply(layer, &Target { root: root.path().to_owned(), overlay: None }, options)
}

#[test]
fn the_digest_is_that_of_the_archive() {
    let archive = some();
    let expected = Unpacked { sha256: sha256(&archive), size: archive.len() as u64 };
    let (begin, end) = archive.split_at(100_000);
    let members = [gzip(begin), gzip(end)].concat();
    let frames = [zstd(begin), vec![0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9], zstd(end)].concat();
    for layer in [&archive, &gzip(&archive), &zstd(&archive), &members, &frames] {
        assert_eq!(into_new(layer, &options()).unwrap(), expected);
    }
    let plain = ApplyOptions { packing: Packing::Plain, sync: true, ..options() };
    assert_eq!(into_new(&archive, &plain).unwrap(), expected);
    assert!(into_new(&gzip(&archive), &plain).is_err());
}

#[test]
fn what_is_damaged_is_an_error() {
    let archive = some();
    let (packed, other) = (gzip(&archive), zstd(&archive));
    for layer in [&archive, &packed, &other] {
        for length in [1, 5, 100, 600, layer.len() / 2] {
            let error = into_new(&layer[..length], &options()).unwrap_err();
            assert!(!error.to_string().contains("entry"), "{error}");
        }
    }
    let mut flipped = packed.clone();
    flipped[packed.len() / 2] ^= 1;
    assert!(into_new(&flipped, &options()).is_err());
    // The checksum at the end is compared, though the archive has ended.
    let mut flipped = packed.clone();
    flipped[packed.len() - 5] ^= 1;
    let error = into_new(&flipped, &options()).unwrap_err();
    assert!(matches!(error, DiffError::Layer(_)), "{error:?}");
    assert!(into_new(&[&packed[..], b"rest"].concat(), &options()).is_err());
    let error = into_new(&[b'x'; 2000], &options()).unwrap_err();
    assert!(error.to_string().starts_with("the archive has"), "{error}");
    let mut header = Tar::default().file("first", b"").file("second", b"").end();
    header[512 + 100] ^= 1;
    let error = into_new(&header, &options()).unwrap_err();
    assert!(error.to_string().contains("\"first\""), "{error}");
}

#[test]
fn a_bomb_is_bounded() {
    let bytes = |most| options_of(Bounds { bytes: Some(most), entries: None });
    let bomb = gzip(&Tar::default().file("zeros", &vec![0; 20 << 20]).end());
    assert!(bomb.len() < 200 << 10);
    let root = tempfile::tempdir().unwrap();
    let target = Target { root: root.path().to_owned(), overlay: None };
    let error = apply(&*bomb, &target, &bytes(1 << 20)).unwrap_err();
    let message = "entry \"zeros\" makes the layer larger than layer_max_size, 1048576 bytes: resource exhausted";
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        (message, Some(Kind::ResourceExhausted))
    );
    assert!(!root.path().join("zeros").exists());
    assert!(into_new(&bomb, &bytes(21 << 20)).is_ok());
    // What comes behind the archive's end.
    let zeros = gzip(&vec![0; 20 << 20]);
    let error = into_new(&zeros, &bytes(1 << 20)).unwrap_err();
    assert!(matches!(error, DiffError::ArchiveTooLarge(1_048_576)), "{error:?}");
    assert_eq!(error.kind(), Some(Kind::ResourceExhausted));
}

#[test]
fn a_file_of_holes_counts_as_long_as_it_claims_to_be() {
    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"4000000000000"),
        ("GNU.sparse.name", b"holes"),
    ];
    let mut map = b"0\n".to_vec();
    map.resize(512, 0);
    let layer = Tar::default().records(&records).file("x", &map).end();
    let bounds = Bounds { bytes: Some(1 << 30), entries: None };
    let error = into_new(&layer, &options_of(bounds)).unwrap_err();
    assert!(matches!(&error, DiffError::TooLarge { name, .. } if name == "holes"), "{error:?}");
}

#[test]
fn entries_are_counted() {
    let layer = Tar::default().file("a", b"1").directory("b").symlink("c", "a").end();
    let entries = |most| options_of(Bounds { bytes: None, entries: Some(most) });
    assert!(into_new(&layer, &entries(3)).is_ok());
    let error = into_new(&layer, &entries(2)).unwrap_err();
    let message = "entry \"c\" is beyond layer_max_entries, 2: resource exhausted";
    assert_eq!(
        (error.to_string().as_str(), error.kind()),
        (message, Some(Kind::ResourceExhausted))
    );
}

/// Does not end, and is given up by whom it is read by.
struct Endless(Cancel, usize);

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1 == 4 {
            self.0.cancel();
        }
        let header = Tar::default().file("x", b"");
        let length = into.len() / 512 * 512;
        into[..length].chunks_exact_mut(512).for_each(|block| block.copy_from_slice(&header.0));
        Ok(length)
    }
}

#[test]
fn it_stops_when_it_is_cancelled() {
    let root = tempfile::tempdir().unwrap();
    let options = options();
    let target = Target { root: root.path().to_owned(), overlay: None };
    let error = apply(Endless(options.cancel.clone(), 0), &target, &options).unwrap_err();
    assert!(matches!(error, DiffError::Cancelled), "{error:?}");
    assert_eq!(error.kind(), Some(Kind::Cancelled));
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is broken"))
    }
}

#[test]
fn a_layer_that_cannot_be_read_says_why() {
    let root = tempfile::tempdir().unwrap();
    let target = Target { root: root.path().to_owned(), overlay: None };
    let error = apply(Broken, &target, &options()).unwrap_err();
    assert_eq!(error.to_string(), "the layer cannot be read: the disk is broken");
}

#[test]
fn a_full_disk_is_told() {
    with_small_disk(tempfile::tempdir().unwrap().path(), "400k", |dir| {
        let target = Target { root: dir.to_owned(), overlay: None };
        let error = apply(&*gzip(&some()), &target, &options()).unwrap_err();
        assert_eq!(error.kind(), Some(Kind::ResourceExhausted), "{error}");
        assert!(error.to_string().starts_with("no room: cannot write \"d/file\""), "{error}");
    });
}
