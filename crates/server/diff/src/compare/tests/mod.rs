//! Layers are made of what differs.

mod changes;
mod depth;
mod overlay;
mod round_trip;

use std::{fs, path::Path};

use super::{DiffOptions, diff};
use crate::{ApplyOptions, Bounds, Cancel, Compression, DiffError, Packing, Target, apply};

fn options() -> DiffOptions {
    DiffOptions { compression: Compression::None, epoch: None, cancel: Cancel::default() }
}

/// The archive without compression.
fn archive(left: &Path, right: &Path) -> Vec<u8> {
    let mut archive = Vec::new();
    diff(left, right, &mut archive, &options()).unwrap();
    archive
}

/// What an archive has: the name of each entry and its type, with what a link leads to.
fn listed(archive: &[u8]) -> Vec<String> {
    let mut entries = Vec::new();
    for entry in tar::Archive::new(archive).entries().unwrap() {
        let entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let link =
            entry.link_name_bytes().map(|link| String::from_utf8(link.into_owned()).unwrap());
        entries.push(match link {
            Some(link) => format!("{name} -> {link}"),
            None => name,
        });
    }
    entries
}

fn unpack(layer: &[u8], root: &Path) {
    let target = Target { root: root.to_owned(), overlay: None };
    let cancel = Cancel::default();
    let options =
        ApplyOptions { packing: Packing::Detect, bounds: Bounds::default(), sync: false, cancel };
    apply(layer, &target, &options).unwrap();
}

fn write(path: &Path, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
