//! `gantry images` and `gantry rmi`.

use std::fs;

use gantry_tests::Runtime::Runc;

use crate::{Bed, image::NewImage, json_lines, output, stderr, stdout, succeeds};

/// How many blobs there are on the disk.
fn blobs(bed: &Bed) -> usize {
    fs::read_dir(bed.server.root().join("content/blobs/sha256")).unwrap().count()
}

#[tokio::test]
async fn images_are_listed_and_removed() {
    let Some(bed) = Bed::make(Runc).await else { return };
    let empty = succeeds(&bed.gantry(&["images"]));
    assert_eq!(empty.lines().count(), 1, "{empty}");
    NewImage::busybox(&bed).put(&bed, "default", "docker.io/library/box:latest").await;
    let layered = NewImage::busybox(&bed).layer(&bed, |dir| fs::write(dir.join("f"), "x").unwrap());
    layered.put(&bed, "default", "registry.local/other:1").await;
    NewImage::busybox(&bed).put(&bed, "else", "third").await;

    let table = succeeds(&bed.gantry(&["images"]));
    let rows: Vec<Vec<_>> = table.lines().map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{table}");
    assert_eq!(rows[0], ["NAME", "DIGEST", "SIZE", "PLATFORMS", "AGE"]);
    assert_eq!(rows[1][0], "docker.io/library/box:latest");
    assert_eq!(rows[1][1].len(), 12);
    assert!(rows[1][3].starts_with("linux/") && !rows[1][3].contains(','), "{table}");

    let list = |arguments: &[&str]| succeeds(&bed.gantry(&[&["images"], arguments].concat()));
    let both = "docker.io/library/box:latest\nregistry.local/other:1\n";
    assert_eq!(list(&["-q"]), both);
    assert_eq!(list(&["-q", "oth", "nothing"]), "registry.local/other:1\n");
    assert_eq!(list(&["-q", "--filter", "name~=box"]), "docker.io/library/box:latest\n");
    assert_eq!(list(&["-q", "--namespace", "else"]), "third\n");
    let rows = json_lines(&list(&["--json"]));
    let [one, two] = rows.as_slice() else { panic!("{rows:?}") };
    assert!(two["size"].as_u64() > one["size"].as_u64() && one["size"].as_u64() > Some(100_000));
    assert!(one["digest"].as_str().unwrap().starts_with("sha256:"));
    let bad = output(&bed.gantry(&["images", "--filter", "name~~"]));
    assert_eq!(bad.status.code(), Some(1), "{bad:?}");

    // What another image has stays.
    let before = blobs(&bed);
    let removed = output(&bed.gantry(&["rmi", "no-such", "box", "nor-this"]));
    assert_eq!(removed.status.code(), Some(1), "{removed:?}");
    assert_eq!(stdout(&removed), "docker.io/library/box:latest\n");
    assert_eq!(
        stderr(&removed),
        "gantry: namespace default has no image no-such\n\
         gantry: namespace default has no image nor-this\n"
    );
    assert_eq!(list(&["-q"]), "registry.local/other:1\n");
    assert_eq!(blobs(&bed), before, "namespace else has the same files");
    succeeds(&bed.gantry(&["rmi", "--namespace", "else", "third"]));
    // The index, the manifest and the configuration, but not the layer, which the other image has.
    assert_eq!(blobs(&bed), before - 3);
    succeeds(&bed.gantry(&["rmi", "registry.local/other:1"]));
    assert_eq!(blobs(&bed), 0, "gone when it has returned");
    bed.finish().await;
}
