//! Layers that are made to fill a disk, or memory.

use gantry_tests::{Runtime, Server};
use tonic::Code;

use super::*;

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// How much the server may grow while it unpacks.
const GROWTH: u64 = 64 << 10;

#[tokio::test]
async fn a_layer_beyond_its_bounds_is_refused_by_the_name_of_an_entry() {
    let bounds = ["--layer-max-size", "1M", "--layer-max-entries", "9"];
    let setup = Server::setup(Runtime::Runc).arguments(&bounds);
    let Some(bed) = Bed::start_with(setup).await else { return };
    let tree = directory(&bed, "tree");
    fs::write(tree.join("a-bomb"), vec![0; 8 << 20]).unwrap();
    let bomb = tar(&tree, &["a-bomb"]);
    fs::write(tree.join("holes"), "").unwrap();
    fs::File::options().write(true).open(tree.join("holes")).unwrap().set_len(4 << 40).unwrap();
    let holes = tar(&tree, &["--sparse", "holes"]);
    let many: Vec<String> = (0..10).map(|number| format!("file-{number}")).collect();
    many.iter().for_each(|name| fs::write(tree.join(name), "").unwrap());
    let many = tar(&tree, &many.iter().map(|name| &**name).collect::<Vec<_>>());
    let larger = |name: &str| {
        format!("entry {name:?} makes the layer larger than layer_max_size, 1048576 bytes")
    };
    let more = r#"entry "file-9" is beyond layer_max_entries, 9"#.to_owned();
    for (layer, media_type, message) in [
        (through("gzip", &bomb).await, GZIP, larger("a-bomb")),
        (through("zstd", &bomb).await, ZSTD, larger("a-bomb")),
        (holes, LAYER, larger("holes")),
        (many, LAYER, more),
    ] {
        let target = directory(&bed, "target");
        let error = apply(&bed, &layer, media_type, &[bind(&target, "rw")]).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted, "{error:?}");
        assert!(error.message().starts_with(&message), "{error:?}");
        assert!(!target.join("a-bomb").exists() && !target.join("holes").exists());
    }
    bed.server.finish().await;
}

/// Each of `GANTRY_TEST_LAYER_MIB` (64).
#[tokio::test]
async fn four_layers_at_once_take_little_memory() {
    let Some(bed) = Bed::start().await else { return };
    let size: usize = match std::env::var("GANTRY_TEST_LAYER_MIB") {
        Ok(mib) => mib.parse().unwrap(),
        Err(_) => 64,
    };
    let tree = directory(&bed, "tree");
    // Of each page a few bytes are different.
    let mut data = vec![0; size << 20];
    for (number, page) in data.chunks_exact_mut(4096).enumerate() {
        page[..8].copy_from_slice(&number.to_ne_bytes());
    }
    fs::write(tree.join("data"), &data).unwrap();
    drop(data);
    let archive = tar(&tree, &["data"]);
    let small = directory(&bed, "small");
    fs::write(small.join("data"), vec![7; 1 << 20]).unwrap();
    let small = tar(&small, &["data"]);
    for (program, media_type) in [("gzip", GZIP), ("zstd", ZSTD)] {
        let digest = put(&bed, "ns", &through(program, &archive).await).await;
        // Code that nobody has used yet is no growth.
        let target = directory(&bed, "first");
        let first = through(program, &small).await;
        apply(&bed, &first, media_type, &[bind(&target, "rw")]).await.unwrap();
        let before = memory(&bed, "VmRSS:");
        // Its peak is that from now on, see proc_pid_clear_refs(5).
        fs::write(format!("/proc/{}/clear_refs", bed.server.pid()), "5").unwrap();
        let targets = ["0", "1", "2", "3"].map(|name| directory(&bed, name));
        let mounts = targets.each_ref().map(|target| [bind(target, "rw")]);
        let [a, b, c, d] =
            mounts.each_ref().map(|mounts| apply_digest(&bed, &digest, media_type, mounts));
        let done = tokio::join!(a, b, c, d);
        for applied in [done.0, done.1, done.2, done.3] {
            assert_eq!(applied.unwrap().size, i64::try_from(archive.len()).unwrap());
        }
        let grown = memory(&bed, "VmHWM:").saturating_sub(before);
        assert!(grown < GROWTH, "{program}: {grown} KiB more than {before} KiB");
        for target in targets {
            assert_eq!(fs::metadata(target.join("data")).unwrap().len(), (size as u64) << 20);
            fs::remove_dir_all(target).unwrap();
        }
    }
    bed.server.finish().await;
}

/// In KiB, of the server.
fn memory(bed: &Bed, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", bed.server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
