//! Which points are tried.

use std::collections::HashSet;

/// Of the same call on the same thing by the same program.
const MOST: usize = 3;

/// By default, so that it takes two or three minutes.
const USUAL: usize = 110;

/// Calls that fail when something is scarce.
const SCARCE: [&str; 16] = [
    "accept4",
    "clone",
    "clone3",
    "connect",
    "eventfd2",
    "execve",
    "fcntl",
    "fork",
    "inotify_add_watch",
    "inotify_init1",
    "memfd_create",
    "pidfd_open",
    "pipe2",
    "socket",
    "socketpair",
    "vfork",
];

/// The points that are `wanted`: "all", those that contain a text, or by default some of every kind.
pub(crate) fn choose(recorded: &[String], wanted: &str) -> Vec<String> {
    let few = || recorded.iter().filter(|point| number(point) <= MOST || makes_thread(point));
    match wanted {
        "all" => few().cloned().collect(),
        "" => usual(few().collect()),
        text => recorded.iter().filter(|point| point.contains(text)).cloned().collect(),
    }
}

/// The first threads are made at the start, and what matters is what comes later.
fn makes_thread(point: &str) -> bool {
    point.contains(" clone3 ")
}

/// Which of the same calls it is.
fn number(point: &str) -> usize {
    let number = point.rsplit(' ').nth(1).and_then(|number| number.parse().ok());
    number.expect("program, call, what it is about, number, error")
}

/// The first scarce call of each kind of each program, and some of the others: always the same, also
/// when there are new ones.
fn usual(mut points: Vec<&String>) -> Vec<String> {
    let mut seen = HashSet::new();
    // false is first.
    points.sort_by_cached_key(|point| {
        let mut words = point.split(' ');
        let key = (words.next(), words.next());
        let is_scarce = key.1.is_some_and(|call| SCARCE.contains(&call));
        (!(is_scarce && seen.insert(key)), crc32fast::hash(point.as_bytes()))
    });
    points.into_iter().take(USUAL).cloned().collect()
}
