//! What snapshots are to be mounted as, in containerd's words and order.

use std::path::Path;

use gantry_domain::Mount;
use gantry_store::{Snapshot, SnapshotChain, SnapshotKind};

use crate::layout::Layout;

/// With overlayfs; none of a committed one. `maps` are options of any mount, `own` those of an overlay.
pub(crate) fn overlay(
    layout: &Layout,
    maps: &[String],
    own: &[String],
    chain: &SnapshotChain,
) -> Option<Mount> {
    let SnapshotChain { snapshot, below } = chain;
    let Snapshot { kind, directory, .. } = snapshot;
    let lower: Vec<_> = below.iter().map(|below| text(&layout.files(*below))).collect();
    let bound = |source, further: [&str; 2]| {
        let Mount { options, .. } = bind(String::new(), &further);
        let options = [maps, &options].concat();
        Some(Mount { options, ..bind(source, &[]) })
    };
    let mut options = [maps, own].concat();
    match (kind, lower.as_slice()) {
        (SnapshotKind::Committed, _) => return None,
        (_, []) => {
            let mode = if *kind == SnapshotKind::View { "ro" } else { "rw" };
            return bound(text(&layout.files(*directory)), [mode, "rbind"]);
        }
        (SnapshotKind::View, [one]) => return bound(one.clone(), ["ro", "rbind"]),
        (SnapshotKind::View, _) => {}
        (SnapshotKind::Active, _) => {
            options.push(format!("workdir={}", text(&layout.work(*directory))));
            options.push(format!("upperdir={}", text(&layout.files(*directory))));
        }
    }
    options.push(format!("lowerdir={}", lower.join(":")));
    Some(Mount {
        kind: "overlay".to_owned(),
        source: "overlay".to_owned(),
        target: String::new(),
        options,
    })
}

/// With copies; none of a committed one.
pub(crate) fn native(layout: &Layout, chain: &SnapshotChain) -> Option<Mount> {
    let Snapshot { kind, directory, .. } = chain.snapshot;
    match (kind, chain.below.first()) {
        (SnapshotKind::Committed, _) => None,
        (SnapshotKind::Active, _) => Some(bind(text(&layout.files(directory)), &["rbind", "rw"])),
        (SnapshotKind::View, parent) => {
            let files = layout.files(*parent.unwrap_or(&directory));
            Some(bind(text(&files), &["rbind", "ro"]))
        }
    }
}

fn bind(source: String, options: &[&str]) -> Mount {
    Mount {
        kind: "bind".to_owned(),
        source,
        target: String::new(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
