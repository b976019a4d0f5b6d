//! What must hold for any bytes that the server reads: checks for libFuzzer's targets, and a
//! bounded run of the same as a test.

#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    fs,
    io::{self, Write},
};

use gantry_diff::{ApplyOptions, Bounds, Cancel, Packing, Target, apply};
use gantry_domain::Stdio;
use gantry_events::record::{Fault, Lines, recover};
use gantry_runtime::bundle::{Config, Dialect};
use gantry_shim_proto::{ExitFile, FromShim, Identity, ToShim};
use gantry_store::filter::{Filter, Filters};

/// A journal: what is read of it is in order, and is the same without what was skipped.
pub fn journal(data: &[u8]) {
    check_journal(data);
    check_journal(&sealed(data));
}

/// The lines of `data`, each with the checksum that it needs to be looked at any further.
fn sealed(data: &[u8]) -> Vec<u8> {
    let mut journal = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        let _ = write!(journal, "{:08x} ", crc32fast::hash(line));
        journal.extend_from_slice(line);
        journal.push(b'\n');
    }
    journal
}

fn check_journal(journal: &[u8]) {
    let recovered = recover(journal);
    let lines = journal.split_inclusive(|byte| *byte == b'\n').count();
    let damaged = recovered.damage.len();
    assert_eq!(recovered.count() + damaged, lines, "a line is neither read nor damaged");
    let Lines { events, published, damage, .. } = recovered;
    assert!(events.is_sorted_by(|a, b| a.at < b.at), "out of order");
    assert!(published.is_sorted_by(|a, b| a.at < b.at), "out of order");
    let mut sound = Vec::new();
    let mut read = 0;
    for (number, damaged) in damage.iter().enumerate() {
        sound.extend_from_slice(&journal[read..damaged.offset]);
        read = damaged.offset + damaged.length;
        let torn = damaged.fault == Fault::Torn;
        assert!(!torn || number + 1 == damage.len() && read == journal.len(), "torn amid");
    }
    sound.extend_from_slice(&journal[read..]);
    let again = recover(&sound);
    assert_eq!((again.events, again.published, again.damage), (events, published, Vec::new()));
}

/// Packets and files of a shim: what can be read is written back in the same form.
pub fn protocol(data: &[u8]) {
    if let Ok(record) = ToShim::decode(data) {
        assert_eq!(ToShim::decode(&record.encode()), Ok(record));
    }
    if let Ok(record) = FromShim::decode(data) {
        assert_eq!(FromShim::decode(&record.encode()), Ok(record));
    }
    let text = String::from_utf8_lossy(data);
    if let Some(exit) = ExitFile::from_json(&text) {
        assert_eq!(ExitFile::from_json(&exit.to_json()), Some(exit));
    }
    if let Some(identity) = Identity::from_json(&text) {
        assert_eq!(Identity::from_json(&identity.to_json()), Some(identity));
    }
}

/// A config.json is read whatever it says.
pub fn bundle(data: &[u8]) {
    for dialect in [Dialect::Go, Dialect::Yajl, Dialect::Serde] {
        assert!(Config::read(data, Stdio::default(), dialect).init.id.is_init());
    }
}

/// A filter: one that can be parsed is printed as one with the same meaning, and can be matched with anything.
pub fn filter(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    // Longer ones are refused, unread.
    let Ok(filter) = Filter::parse(&text) else { return };
    let printed = filter.to_string();
    assert_eq!(Filter::parse(&printed).as_ref(), Ok(&filter), "{printed}");
    for value in [None, Some(""), Some("a"), Some(&*text)] {
        let field = |_: &[String]| value.map(Cow::Borrowed);
        let matches = filter.matches(&field);
        let lists = Filters::parse(&[&*text]).map(|list| list.matches(&field));
        assert_eq!(lists, Ok(matches), "a list of one filter differs from the filter");
    }
}

/// A configuration file, also where gantryd takes containerd's place.
pub fn config(data: &[u8]) {
    gantryd::untrusted::config(&String::from_utf8_lossy(data));
}

/// An update of a container: a value, then the paths of its mask, a line each.
pub fn mask(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut lines = text.split('\n');
    let value = lines.next().unwrap_or_default();
    let paths: Vec<String> = lines.map(str::to_owned).collect();
    gantry_store::untrusted::mask(&paths, value);
}

/// An `Any` of a request about tasks: its type, a line, and its value.
pub fn any(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let (type_url, value) = data.split_at(end);
    gantryd::untrusted::any(&String::from_utf8_lossy(type_url), value.get(1..).unwrap_or_default());
}

/// A layer: whatever it says, nothing but its own directory changes.
pub fn layer(data: &[u8]) {
    let beside = unpacked_beside(data);
    assert!(matches!(beside, Ok(1)), "a layer has led out: {beside:?}");
}

/// Unpacks a layer into a directory; how many names there are beside.
fn unpacked_beside(data: &[u8]) -> io::Result<usize> {
    let outer = tempfile::tempdir()?;
    let root = outer.path().join("root");
    fs::create_dir(&root)?;
    let cancel = Cancel::default();
    let bounds = Bounds { bytes: Some(4 << 20), entries: None };
    let options = ApplyOptions { packing: Packing::Detect, bounds, sync: false, cancel };
    let _ = apply(data, &Target { root, overlay: None }, &options);
    Ok(fs::read_dir(outer.path())?.count())
}
