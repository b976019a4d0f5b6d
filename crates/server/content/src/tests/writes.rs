//! Writes, up to the blob.

use std::{fs, time::SystemTime};

use gantry_domain::Kind;
use gantry_store::{Algorithm, Digest, Labels, filter::Filters};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use tempfile::TempDir;

use super::{Bed, digest, namespace, open, read};
use crate::{ContentError, MAX_WRITERS, hash::Hasher};

#[tokio::test]
async fn what_is_written_is_read() {
    let bed = Bed::new().await;
    // Longer than what is read at a time.
    let data: Vec<u8> = (0..600_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let mut writer = bed.writer("w").await.unwrap();
    for piece in data.chunks(100_001) {
        writer.write(piece.to_vec()).await.unwrap();
    }
    assert_eq!((writer.offset(), writer.digest()), (600_000, digest(&data)));
    let made = writer.commit(600_000, Some(digest(&data)), Labels::new()).await.unwrap();
    assert_eq!(made, digest(&data));
    assert_eq!(bed.get(&made).await.unwrap(), data);
    let part = async |offset, size| read(&bed.content, "ns", &made, offset, size).await;
    assert_eq!(part(599_999, None).await.unwrap(), data[599_999..]);
    assert_eq!(part(5, Some(300_000)).await.unwrap(), data[5..300_005]);
    assert_eq!(part(599_990, Some(u64::MAX)).await.unwrap(), data[599_990..]);
    assert_eq!(part(600_000, None).await.unwrap(), []);
    let past = part(600_001, None).await.unwrap_err();
    assert_eq!(
        (past.kind(), &*past.to_string()),
        (Kind::OutOfRange, "read past object length 600000 bytes")
    );
    assert!(!bed.ingest("w").exists());
    assert_eq!(bed.put(b"").await, digest(b""));
    assert_eq!(bed.get(&digest(b"")).await.unwrap(), []);
}

#[tokio::test]
async fn a_write_is_gone_on_with() {
    let mut bed = Bed::new().await;
    let mut writer = bed.expecting("w", 6, None).await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    let locked = bed.writer("w").await.err().unwrap();
    assert_eq!(locked.kind(), Kind::Unavailable, "{locked}");
    drop(writer);
    // A server that was killed, and one that was stopped.
    for in_order in [false, true] {
        bed.restart(in_order, 1).await;
        let status = bed.content.status(&namespace("ns"), "w").await.unwrap();
        assert_eq!((status.offset, status.ingest.total), (3, 6));
        let writer = bed.writer("w").await.unwrap();
        assert_eq!((writer.offset(), writer.digest()), (3, digest(b"abc")));
        assert_eq!(writer.started_at(), status.ingest.started_at);
    }
    // What was written before a boot need not be on the disk.
    bed.restart(true, 2).await;
    let mut writer = bed.writer("w").await.unwrap();
    assert_eq!((writer.offset(), writer.digest()), (0, digest(b"")));
    writer.write(b"wrong".to_vec()).await.unwrap();
    writer.truncate().await.unwrap();
    writer.write(b"abcdef".to_vec()).await.unwrap();
    let made = writer.commit(6, None, Labels::new()).await.unwrap();
    assert_eq!((bed.get(&made).await.unwrap(), made), (b"abcdef".to_vec(), digest(b"abcdef")));
    let gone = bed.content.status(&namespace("ns"), "w").await.unwrap_err();
    assert_eq!(gone.to_string(), "reference w: not found");
}

/// What is behind it, as after a write that failed, is no part of the blob.
#[tokio::test]
async fn a_blob_has_what_was_counted_alone() {
    let bed = Bed::new().await;
    let mut writer = bed.writer("w").await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    fs::write(bed.ingest("w"), b"abcdef").unwrap();
    let made = writer.commit(3, None, Labels::new()).await.unwrap();
    assert_eq!((bed.get(&made).await.unwrap(), made), (b"abc".to_vec(), digest(b"abc")));
}

/// Whose time cannot be set, as a tmpfs has them: it can be cut all the same.
#[tokio::test]
async fn a_file_that_is_cut_begins_anew_whatever_fails_then() {
    let dir = TempDir::new_in("/dev/shm").unwrap();
    let content = open(dir.path(), 1).await;
    let ns = namespace("ns");
    let mut writer = content.writer(&ns, "w".to_owned(), 0, None, None).await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    let file = fs::File::open(writer.path()).unwrap();
    let flags = ioctl_getflags(&file);
    let set = |flags| ioctl_setflags(&file, flags | IFlags::IMMUTABLE);
    if let Err(why) = flags.and_then(set) {
        eprintln!("skipped: no such file here: {why}");
        return;
    }
    let failed = writer.truncate().await;
    let now = (writer.offset(), writer.digest());
    ioctl_setflags(&file, flags.unwrap()).unwrap();
    assert_eq!(fs::metadata(writer.path()).unwrap().len(), 0, "{failed:?}");
    assert!(failed.unwrap_err().to_string().contains("time"));
    assert_eq!(now, (0, digest(b"")));
}

/// A client compares them with its own clock, to the nanosecond; the kernel's times of files are those of its ticks.
#[tokio::test]
async fn times_are_not_before_the_request() {
    let bed = Bed::new().await;
    for round in 0..20 {
        let name = format!("w{round}");
        let begun = SystemTime::now();
        let mut writer = bed.writer(&name).await.unwrap();
        let status = async || bed.content.status(&namespace("ns"), &name).await.unwrap();
        let fresh = status().await;
        assert!(fresh.updated_at >= begun && fresh.ingest.started_at >= begun, "{round}");
        assert!(writer.updated_at() >= begun, "{round}");
        for truncates in [false, true] {
            let changed = SystemTime::now();
            match truncates {
                true => writer.truncate().await.unwrap(),
                false => writer.write(b"abc".to_vec()).await.unwrap(),
            }
            assert!(writer.updated_at() >= changed, "{round}");
            assert_eq!(status().await.updated_at, writer.updated_at());
        }
        let updated_at = writer.updated_at();
        drop(writer);
        let again = bed.writer(&name).await.unwrap();
        assert_eq!(again.updated_at(), updated_at);
    }
}

#[tokio::test]
async fn a_commit_that_is_refused_leaves_the_write() {
    let bed = Bed::new().await;
    let write = async || {
        let mut writer = bed.writer("w").await.unwrap();
        writer.truncate().await.unwrap();
        writer.write(b"abc".to_vec()).await.unwrap();
        writer
    };
    let size = write().await.commit(4, None, Labels::new()).await.unwrap_err();
    assert_eq!(size.to_string(), "\"w\" failed size validation: 3 != 4: failed precondition");
    let other = write().await.commit(3, Some(digest(b"x")), Labels::new()).await.unwrap_err();
    let message = format!(
        "unexpected commit digest {}, expected {}: failed precondition",
        digest(b"abc"),
        digest(b"x")
    );
    assert_eq!((other.kind(), other.to_string()), (Kind::FailedPrecondition, message));
    let long = Labels::from([("k".to_owned(), "v".repeat(5000))]);
    let labels = write().await.commit(3, None, long).await.unwrap_err();
    assert_eq!(labels.kind(), Kind::InvalidArgument);
    assert_eq!(bed.content.status(&namespace("ns"), "w").await.unwrap().offset, 3);

    // Of what is there the write is gone.
    write().await.commit(3, None, Labels::new()).await.unwrap();
    let exists = write().await.commit(0, None, Labels::new()).await.unwrap_err();
    assert_eq!(exists.to_string(), format!("content {}: already exists", digest(b"abc")));
    assert!(bed.content.status(&namespace("ns"), "w").await.is_err());
    let known = bed.expecting("w", 0, Some(&digest(b"abc"))).await.err().unwrap();
    assert_eq!((known.kind(), known.to_string()), (exists.kind(), exists.to_string()));
    assert!(bed.content.status(&namespace("ns"), "w").await.is_err(), "it has begun");
    assert_eq!(bed.get(&digest(b"abc")).await.unwrap(), b"abc");
}

#[tokio::test]
async fn digests_of_other_algorithms_are_computed() {
    let bed = Bed::new().await;
    let long = |data: &[u8]| {
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(data);
        hasher.digest()
    };
    // Known when the write begins, and only when it ends.
    for (data, early) in [(b"a", true), (b"b", false)] {
        let expected = long(data);
        let told = early.then_some(&expected);
        let mut writer = bed.expecting("w", 0, told).await.unwrap();
        writer.write(data.to_vec()).await.unwrap();
        let made = writer.commit(0, Some(expected.clone()), Labels::new()).await.unwrap();
        assert_eq!(made, expected);
        assert_eq!(bed.get(&expected).await.unwrap(), data);
    }
    let mut writer = bed.writer("w").await.unwrap();
    writer.write(b"c".to_vec()).await.unwrap();
    let wrong = writer.commit(0, Some(long(b"d")), Labels::new()).await.unwrap_err();
    assert!(matches!(wrong, ContentError::Digest { actual, .. } if actual == long(b"c")));
}

#[tokio::test]
async fn a_write_is_given_up() {
    let bed = Bed::new().await;
    let ns = namespace("ns");
    let mut writer = bed.writer("w").await.unwrap();
    writer.write(b"abc".to_vec()).await.unwrap();
    bed.content.abort(&ns, "w").await.unwrap();
    assert!(!bed.ingest("w").exists());
    let again = bed.content.abort(&ns, "w").await.unwrap_err();
    assert_eq!((again.kind(), &*again.to_string()), (Kind::NotFound, "reference w: not found"));
    // Who has it still does not make a blob of it, nor of what another one writes.
    assert_eq!(bed.writer("w").await.err().unwrap().kind(), Kind::Unavailable);
    let gone = writer.commit(0, None, Labels::new()).await.unwrap_err();
    assert_eq!(gone.kind(), Kind::NotFound, "{gone}");
    assert!(!bed.blob(&digest(b"abc")).exists());
    assert_eq!(bed.writer("w").await.unwrap().offset(), 0);
}

#[tokio::test]
async fn open_writes_are_bounded_and_others_are_not() {
    let bed = Bed::new().await;
    let name = |number: usize| format!("{number:04}-{}", "r".repeat(4091));
    let mut open = Vec::new();
    for number in 0..MAX_WRITERS {
        open.push(bed.writer(&name(number)).await.unwrap());
    }
    let full = bed.writer("one more").await.err().unwrap();
    assert_eq!(full.kind(), Kind::ResourceExhausted, "{full}");
    open.clear();
    drop(bed.writer("one more").await.unwrap());
    // Their names are long, so that they are listed page by page.
    let (mut listed, mut pages, mut after) = (Vec::new(), 0, None);
    loop {
        let page =
            bed.content.statuses(&namespace("ns"), &Filters::default(), after).await.unwrap();
        listed.extend(page.statuses.into_iter().map(|status| status.ingest.reference));
        (pages, after) = (pages + 1, page.after);
        if after.is_none() {
            break;
        }
    }
    let all = (0..MAX_WRITERS).map(name).chain(["one more".to_owned()]);
    assert_eq!(listed, all.collect::<Vec<_>>());
    assert!(pages > 4, "{pages}");
    let long = bed.writer(&"r".repeat(4097)).await.err().unwrap();
    assert_eq!(long.kind(), Kind::InvalidArgument, "{long}");
    let unknown = Digest::parse(&format!("sha256:{}", "0".repeat(64))).unwrap();
    assert_eq!(bed.get(&unknown).await.unwrap_err().kind(), Kind::NotFound);
}
