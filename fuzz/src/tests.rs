//! A bounded run of what libFuzzer runs without end: any bytes, and bytes that are nearly valid.

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

const CONFIGS: &[&str] = &[
    "version = 2",
    "root = \"/r\"",
    "state = \"\"",
    "listen = [\"/s\"]",
    "disabled_plugins = [\"cri\"]",
    "[grpc]",
    "address = \"/run/containerd.sock\"",
    "uid = 1",
    "[debug]",
    "level = \"info\"",
    "[plugins.\"io.containerd.grpc.v1.cri\"]",
];

const MASKS: &[&str] =
    &["value", "labels", "labels.a", "labels.b.c", "extensions.b.c", "extensions", "spec", "image"];

const ANYS: &[&str] = &[
    "types.containerd.io/opencontainers/runtime-spec/1/Process",
    r#"{"args":["a"],"Terminal":true,"#,
    r#""terminal":false}"#,
];

/// Fields of a message with text, as in protobuf, more often than not.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop::sample::select(vec![
        "containerd.runc.v1.Options",
        "/containerd.runc.v1.Options",
        "a.b/containerd.runc.v1.CheckpointOptions",
        "other",
    ]);
    let text = prop::sample::select(vec!["/a/b", "../x", "-x", "network", "soft", "", "a\0b"]);
    let field = prop_oneof![
        (1..=14u8, text).prop_map(|(number, text)| {
            let mut field = vec![number << 3 | 2, u8::try_from(text.len()).unwrap_or_default()];
            field.extend(text.bytes());
            field
        }),
        (1..=14u8, 0..3u8).prop_map(|(number, value)| vec![number << 3, value]),
        vec(any::<u8>(), 0..4),
    ];
    (kind, vec(field, 0..6)).prop_map(|(kind, fields)| {
        let mut bytes = kind.as_bytes().to_vec();
        bytes.push(b'\n');
        bytes.extend(fields.concat());
        bytes
    })
}

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

/// An archive of entries whose names meet, and lead out.
fn archive() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(vec![
        "a",
        "a/b",
        "a/b/c",
        "..",
        "../x",
        "/a",
        "/",
        "a/../..",
        ".wh.a",
        "a/.wh..wh..opq",
        ".wh.",
        "a/.wh.b",
        "./a//b",
        "",
    ]);
    let link = prop::sample::select(vec!["a", "..", "../..", "/", "/a/b", "../../x", "a/b/c", ""]);
    let kind = prop::sample::select(b"0125673LKxgS".to_vec());
    let entry = (name, link, kind, 0..1100_u64);
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (vec(entry, 0..8), prop::option::weighted(0.2, change)).prop_map(|(entries, change)| {
        let mut bytes = Vec::new();
        for (name, link, kind, size) in entries {
            let mut header = [0; 512];
            header[..name.len()].copy_from_slice(name.as_bytes());
            header[100..108].copy_from_slice(b"0000755\0");
            header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
            header[156] = kind;
            header[157..157 + link.len()].copy_from_slice(link.as_bytes());
            header[257..265].copy_from_slice(b"ustar\x0000");
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            bytes.extend(header);
            let has_data = b"07LKxgS".contains(&kind);
            let length = if has_data { usize::try_from(size).unwrap_or_default() } else { 0 };
            bytes.extend(b"13 path=a/b/\n".iter().cycle().take(length));
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        if let Some((at, byte)) = change
            && !bytes.is_empty()
        {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_layer(bytes in prop_oneof![1 => vec(any::<u8>(), 0..64), 9 => archive()]) {
        crate::layer(&bytes);
    }
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

    #[test]
    fn any_config(bytes in prop_oneof![vec(any::<u8>(), 0..64), nearly(CONFIGS)]) {
        crate::config(&bytes);
    }

    #[test]
    fn any_mask(bytes in prop_oneof![vec(any::<u8>(), 0..64), nearly(MASKS)]) {
        crate::mask(&bytes);
    }

    #[test]
    fn any_any(bytes in prop_oneof![vec(any::<u8>(), 0..64), nearly(ANYS), message()]) {
        crate::any(&bytes);
    }
}
