//! A layer that is made of any two trees and applied to the first makes the second.

use std::{collections::BTreeMap, os::unix::fs::MetadataExt, path::PathBuf};

use proptest::{collection::vec, prelude::*};

use super::*;

/// What is done to a tree.
#[derive(Debug, Clone)]
enum Act {
    File(usize, u8),
    Directory(usize),
    Symlink(usize, usize),
    Link(usize, usize),
    Mode(usize, u32),
    Remove(usize),
}

/// So few that acts meet.
const NAMES: [&str; 8] = ["a", "b", "a/x", "a/y", "b/x", "a/x/z", "b/x/.hidden", "a-"];

fn act() -> impl Strategy<Value = Act> {
    let name = 0..NAMES.len();
    prop_oneof![
        (name.clone(), any::<u8>()).prop_map(|(name, data)| Act::File(name, data)),
        name.clone().prop_map(Act::Directory),
        (name.clone(), 0..NAMES.len()).prop_map(|(name, to)| Act::Symlink(name, to)),
        (name.clone(), 0..NAMES.len()).prop_map(|(name, to)| Act::Link(name, to)),
        (name.clone(), 0o600..0o777_u32).prop_map(|(name, mode)| Act::Mode(name, mode)),
        name.prop_map(Act::Remove),
    ]
}

/// Does what can be done.
fn perform(root: &Path, acts: &[Act]) {
    let at = |name: &usize| root.join(NAMES[*name]);
    let is_link = |path: &Path| path.is_symlink();
    for act in acts {
        let (Act::File(name, _) | Act::Directory(name) | Act::Symlink(name, _)) = act else {
            let _ = match act {
                Act::Link(name, to) => fs::hard_link(at(to), at(name)),
                Act::Mode(name, mode) if !is_link(&at(name)) => {
                    let mode = mode | if at(name).is_dir() { 0o700 } else { 0 };
                    fs::set_permissions(
                        at(name),
                        std::os::unix::fs::PermissionsExt::from_mode(mode),
                    )
                }
                Act::Remove(name) if !is_link(&at(name)) && at(name).is_dir() => {
                    fs::remove_dir_all(at(name))
                }
                Act::Remove(name) => fs::remove_file(at(name)),
                _ => Ok(()),
            };
            continue;
        };
        if at(name).ancestors().any(is_link) {
            continue;
        }
        let _ = match act {
            Act::File(_, data) => fs::write(at(name), vec![*data; usize::from(*data)]),
            Act::Directory(_) => fs::create_dir(at(name)),
            Act::Symlink(_, to) => std::os::unix::fs::symlink(NAMES[*to], at(name)),
            _ => Ok(()),
        };
    }
}

/// All there is, but times. Names of one file have the same number.
fn seen(root: &Path) -> BTreeMap<PathBuf, (u32, u64, Vec<u8>, usize)> {
    let (mut found, mut numbers) = (BTreeMap::new(), BTreeMap::new());
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            let stat = fs::symlink_metadata(&path).unwrap();
            let data = if stat.is_dir() {
                left.push(path.clone());
                Vec::new()
            } else if stat.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let next = numbers.len();
            let number = *numbers.entry(stat.ino()).or_insert(next);
            let links = if stat.is_dir() { 0 } else { stat.nlink() };
            let name = path.strip_prefix(root).unwrap().to_owned();
            found.insert(name, (stat.mode(), links, data, number));
        }
    }
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn any_two_trees(first in vec(act(), 0..16), then in vec(act(), 0..10)) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let (start, nothing, left, right) = (at("start"), at("nothing"), at("left"), at("right"));
        for path in [&start, &nothing, &left, &right] {
            fs::create_dir(path).unwrap();
        }
        perform(&start, &first);
        // Both begin as a container's tree does: made by a layer.
        let begin = archive(&nothing, &start);
        unpack(&begin, &left);
        unpack(&begin, &right);
        prop_assert_eq!(seen(&right), seen(&start));
        perform(&right, &then);
        let layer = archive(&left, &right);
        prop_assert!(archive(&left, &right) == layer);
        unpack(&layer, &left);
        prop_assert_eq!(seen(&left), seen(&right));
    }
}
