//! What counts as a change, and how it is written.

use std::{
    fs::File,
    os::unix::{
        fs::{PermissionsExt, symlink},
        net::UnixListener,
    },
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use super::*;

/// Directories that are the same but for what a test does.
fn twins() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    for root in [&left, &right] {
        for name in ["a/b/same", "a/c", "file", "z"] {
            write(&root.join(name), "1");
            set_time(&root.join(name), Duration::from_secs(1_000_000_000));
        }
    }
    (dir, left, right)
}

fn set_time(path: &Path, since: Duration) {
    let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + since);
    File::options().write(true).open(path).unwrap().set_times(times).unwrap();
}

#[test]
fn what_is_the_same_makes_no_entry() {
    let (_dir, left, right) = twins();
    assert!(archive(&left, &right) == [0; 1024]);
}

#[test]
fn changes_are_in_order_and_have_their_parents() {
    let (_dir, left, right) = twins();
    write(&right.join("a/b/new"), "2");
    fs::remove_file(right.join("a/c")).unwrap();
    fs::set_permissions(right.join("file"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::remove_file(right.join("z")).unwrap();
    write(&right.join("z/inner"), "2");
    symlink("/to", right.join("l")).unwrap();
    let _socket = UnixListener::bind(right.join("socket")).unwrap();
    let made = archive(&left, &right);
    let expected = ["a/", "a/b/", "a/b/new", "a/.wh.c", "file", "l -> /to", "z/", "z/inner"];
    assert_eq!(listed(&made), expected);
    assert!(archive(&left, &right) == made);
    unpack(&made, &left);
    fs::remove_file(right.join("socket")).unwrap();
    // Their times are cut off in the layer: directories and links have no more than that.
    let again = listed(&archive(&left, &right));
    assert!(again.iter().all(|name| !name.contains(".wh.")), "{again:?}");
}

/// Where a time has no nanoseconds it may have been cut off.
#[test]
fn content_is_compared_where_times_may_be_cut_off() {
    let (_dir, left, right) = twins();
    write(&right.join("file"), "2");
    set_time(&right.join("file"), Duration::from_secs(1_000_000_000));
    assert_eq!(listed(&archive(&left, &right)), ["file"]);
    for root in [&left, &right] {
        set_time(&root.join("file"), Duration::new(1_000_000_000, 5));
    }
    assert_eq!(listed(&archive(&left, &right)), [""; 0]);
    set_time(&right.join("file"), Duration::new(1_000_000_000, 6));
    assert_eq!(listed(&archive(&left, &right)), ["file"]);
}

#[test]
fn a_file_with_several_names_is_written_once() {
    let (_dir, left, right) = twins();
    // One that has not changed is needed, as a new name leads to it.
    fs::hard_link(right.join("a/c"), right.join("m")).unwrap();
    write(&right.join("n"), "new");
    fs::hard_link(right.join("n"), right.join("o")).unwrap();
    let made = archive(&left, &right);
    assert_eq!(listed(&made), ["m", "a/", "a/c -> m", "n", "o -> n"]);
    unpack(&made, &left);
    assert_eq!(fs::read_to_string(left.join("o")).unwrap(), "new");
}

#[test]
fn values_without_room_are_in_records() {
    let (_dir, left, right) = twins();
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    write(&right.join(&long), "1");
    symlink("t".repeat(150), right.join("link")).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(right.join(&long), Some(3_000_000), Some(0)).unwrap();
    }
    let made = archive(&left, &right);
    let (dir, link) = (format!("{}/", "d".repeat(120)), format!("link -> {}", "t".repeat(150)));
    assert_eq!(listed(&made), [dir, long.clone(), link]);
    unpack(&made, &left);
    assert_eq!(fs::read_to_string(left.join(&long)).unwrap(), "1");
    assert_eq!(fs::read_link(left.join("link")).unwrap(), Path::new(&"t".repeat(150)));
    let owner =
        |root: &Path| std::os::unix::fs::MetadataExt::uid(&fs::metadata(root.join(&long)).unwrap());
    assert_eq!(owner(&left), owner(&right));
}

#[test]
fn no_file_is_younger_than_the_epoch() {
    let (_dir, left, right) = twins();
    write(&right.join("young"), "1");
    fs::remove_file(right.join("z")).unwrap();
    let mut archive = Vec::new();
    diff(&left, &right, &mut archive, &DiffOptions { epoch: Some(77), ..options() }).unwrap();
    for entry in tar::Archive::new(&*archive).entries().unwrap() {
        assert_eq!(entry.unwrap().header().mtime().unwrap(), 77);
    }
}

#[test]
fn a_compressed_layer_is_the_same_layer() {
    let (_dir, left, right) = twins();
    let text: String = (0..200_000).map(|i| format!("{i}\n")).collect();
    write(&right.join("large"), &text);
    let plain = archive(&left, &right);
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut layers = [Vec::new(), Vec::new()];
        for layer in &mut layers {
            let options = DiffOptions { compression, ..options() };
            let made = diff(&left, &right, layer, &options).unwrap();
            assert_eq!(made.sha256, <[u8; 32]>::from(Sha256::digest(&plain)));
            assert_eq!(made.size, plain.len() as u64);
        }
        assert!(layers[0] == layers[1]);
        let target = tempfile::tempdir().unwrap();
        unpack(&layers[0], target.path());
        assert_eq!(fs::read_to_string(target.path().join("large")).unwrap(), text);
    }
}

struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("full"))
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_fails_says_why_and_work_stops() {
    let (_dir, left, right) = twins();
    write(&right.join("large"), &"x".repeat(8 << 20));
    let error = diff(&left, &right, Full, &options()).unwrap_err();
    assert_eq!(error.to_string(), "the layer cannot be written: full");
    let options = options();
    options.cancel.cancel();
    let error = diff(&left, &right, Vec::new(), &options).unwrap_err();
    assert_eq!(error.to_string(), "cancelled");
}
