//! Archives are unpacked.

mod damage;
mod depth;
mod escapes;
mod kinds;
mod sparse;
mod whiteouts;

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::{ApplyOptions, Overlay, Target, apply};
use crate::{Bounds, Cancel, DiffError, Packing, Unpacked};

/// An archive that is written.
#[derive(Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn header(kind: EntryType, name: &str, link: &str, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_size(size as u64);
        header.set_mode(0o755);
        let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
        header.set_uid(uid.as_raw().into());
        header.set_gid(gid.as_raw().into());
        header.set_mtime(1_000_000_000);
        header
    }

    fn with(mut self, mut header: Header, data: &[u8]) -> Self {
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.with(Self::header(EntryType::Regular, name, "", data.len()), data)
    }

    fn directory(self, name: &str) -> Self {
        self.with(Self::header(EntryType::Directory, name, "", 0), b"")
    }

    fn symlink(self, name: &str, target: &str) -> Self {
        self.with(Self::header(EntryType::Symlink, name, target, 0), b"")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.with(Self::header(EntryType::Link, name, target, 0), b"")
    }

    /// PAX records for what comes next.
    fn records(self, records: &[(&str, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|length| rest + length.to_string().len() == *length);
            data.extend_from_slice(format!("{} {key}=", length.unwrap()).as_bytes());
            data.extend_from_slice(value);
            data.push(b'\n');
        }
        self.with(Self::header(EntryType::XHeader, "records", "", data.len()), &data)
    }

    fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn options() -> ApplyOptions {
    options_of(Bounds::default())
}

fn options_of(bounds: Bounds) -> ApplyOptions {
    ApplyOptions { packing: Packing::Detect, bounds, sync: false, cancel: Cancel::default() }
}

/// Unpacks a whole archive.
fn unpack(root: &Path, tar: Tar) -> Result<Unpacked, DiffError> {
    unpack_into(&Target { root: root.to_owned(), overlay: None }, tar)
}

fn unpack_into(target: &Target, tar: Tar) -> Result<Unpacked, DiffError> {
    apply(&*tar.end(), target, &options())
}

/// As the upper directory of an overlay.
fn upper(root: &Path, lower: &[PathBuf]) -> Target {
    let overlay = Overlay { lower: lower.to_owned(), has_user_attributes: false };
    Target { root: root.to_owned(), overlay: Some(overlay) }
}

fn read(path: PathBuf) -> String {
    fs::read_to_string(path).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}
