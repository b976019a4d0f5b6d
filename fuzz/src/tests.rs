//! A bounded run of what libFuzzer runs without end: any bytes, and such as are nearly right.

use proptest::{collection::vec, prelude::*};

const JOURNAL: &[&str] = &[
    r#"{"at":1,"ns":"types","id":"a","life":1,"type":"start-container"}"#,
    r#"{"at":2,"ns":"types","id":"a","life":1,"type":"start-process","pid":"e","plife":2}"#,
    r#"{"at":3,"ns":"types","id":"a","life":1,"type":"exit","pid":"e","plife":2,"code":3}"#,
    r#"{"at":4,"ns":"types","id":"a","life":1,"type":"exit","pid":"init","plife":1,"signal":9}"#,
];

const BUNDLE: &[&str] = &[
    r#"{"process":{"terminal":true,"consoleSize":{"height":3,"width":4},"args":["a"],"#,
    r#""user":{"uid":1,"gid":2,"additionalGids":[3]},"capabilities":{"bounding":["CAP_KILL"]},"#,
    r#""rlimits":[{"type":"RLIMIT_CORE","soft":1,"hard":2}]},"linux":{"cgroupsPath":"/x"}}"#,
];

const EXIT_FILES: &[&str] = &[
    r#"{"version":1,"code":255,"at":18446744073709551615}"#,
    r#"{"version":1,"pid":7,"start_time":8,"pidfd_inode":9}"#,
];

const FILTERS: &[&str] = &[
    "namespace==moby,topic~=|^/tasks/|",
    "type==io.containerd.snapshotter.v1, id != overlayfs",
    r#"labels."moby/prune.images",labels.a."b\"."c"\x41"==d"#,
    r"event.container_id~=/[a-f0-9]{3}\d+\/x/,name",
];

/// Some of the lines, with some bytes changed.
fn nearly(lines: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..3);
    let chosen = prop::sample::subsequence(lines, 1..=lines.len());
    (chosen, changes).prop_map(|(lines, changes)| {
        let mut bytes = lines.join("\n").into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// A packet of a kind that exists, more often than not.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![1..=5u8, 65..=67u8, any::<u8>()];
    // Short lengths are those that fit.
    let byte = prop_oneof![Just(0), 0..4u8, any::<u8>()];
    (kind, vec(byte, 0..64)).prop_map(|(kind, mut bytes)| {
        bytes.splice(0..0, [1, kind]);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_journal(bytes in prop_oneof![vec(any::<u8>(), 0..256), nearly(JOURNAL)]) {
        crate::journal(&bytes);
    }

    #[test]
    fn any_packet(bytes in prop_oneof![vec(any::<u8>(), 0..64), packet(), nearly(EXIT_FILES)]) {
        crate::protocol(&bytes);
    }

    #[test]
    fn any_bundle(bytes in prop_oneof![vec(any::<u8>(), 0..256), nearly(BUNDLE)]) {
        crate::bundle(&bytes);
    }

    #[test]
    fn any_filter(bytes in prop_oneof![vec(any::<u8>(), 0..64), nearly(FILTERS)]) {
        crate::filter(&bytes);
    }
}
