//! Archives of strangers.

use gantry_api::containerd::types::transfer::ImageStore;
use serde_json::json;
use tonic::Code;

use super::{any_name, archive, archive::Files, import, left, names, own_platform, unpacked};
use crate::Bed;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The header of a file that is to have so many bytes.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
    header[156] = b'0';
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

async fn refused(bed: &Bed, archive: &[u8], store: &ImageStore, message: &str) {
    let error = import(bed, "ns", archive, store).await.expect_err(message);
    assert!(error.message().contains(message), "{error}");
    assert!(
        [Code::InvalidArgument, Code::Unknown, Code::NotFound].contains(&error.code()),
        "{error}"
    );
    assert_eq!(left(bed, "ns").await, Vec::<String>::new(), "{message}");
}

#[tokio::test]
async fn what_is_no_archive_of_images_is_refused() {
    let Some(bed) = Bed::start().await else { return };
    let (work, store) = (bed.server.work().to_owned(), any_name(true));
    let whole = archive::layout(&work, "v1");
    for length in [700, 5000, whole.len() / 2 + 100] {
        refused(&bed, &whole[..length], &store, "the archive ends before its end").await;
    }
    let packed = archive::through(&["gzip"], &whole);
    refused(&bed, &packed[..packed.len() / 2], &store, "the archive").await;
    refused(&bed, b"", &store, "has no images that can be recognised").await;
    refused(&bed, &[b'x'; 2000], &store, "has a number that cannot be read").await;
    refused(&bed, &archive::layers(&work)[0], &store, "has no images that can be recognised").await;
    assert_eq!(names(&bed, "ns").await, Vec::<String>::new());
    bed.server.finish().await;
}

/// Nothing of what an archive only says that it has is waited for, or kept in memory.
#[tokio::test]
async fn sizes_that_lie_are_refused() {
    let Some(bed) = Bed::start().await else { return };
    let store = any_name(true);
    for name in ["index.json", "oci-layout", "manifest.json"] {
        let message = format!("has a {name} of 8589934591 bytes, at most 4194304 are read");
        refused(&bed, &header(name, (8 << 30) - 1), &store, &message).await;
    }
    let begin = [header("blobs/big", 1 << 40 >> 8), vec![0; 4096]].concat();
    refused(&bed, &begin, &store, "the archive ends before its end").await;
    let nameless = [header(".", 0), vec![0; 1024]].concat();
    refused(&bed, &nameless, &store, "has a file or link without a name").await;
    let named = format!("blobs/sha256/{}", "0a".repeat(32));
    let data = [header(&named, 3), b"abc".to_vec(), vec![0; 509 + 1024]].concat();
    refused(&bed, &data, &store, "of another digest").await;
    // A name as long as a file.
    let mut long = header("././@LongLink", 2 << 20);
    long[156] = b'L';
    long[148..156].fill(b' ');
    let sum: u32 = long.iter().map(|byte| u32::from(*byte)).sum();
    long[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    refused(&bed, &[long, vec![b'x'; 2 << 20]].concat(), &store, "that is too long").await;
    bed.server.finish().await;
}

#[tokio::test]
async fn documents_that_are_none_are_refused() {
    let Some(bed) = Bed::start().await else { return };
    let work = bed.server.work().to_owned();
    let layout = |name: &str, top: &str| {
        let files = Files::new(work.join(name));
        files.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        files.put("index.json", top.as_bytes());
        files
    };
    let store = any_name(true);
    let index = layout("no-json", "{");
    refused(&bed, &index.tar(), &store, "EOF while parsing").await;
    let index = layout("empty", r#"{"manifests":null}"#);
    refused(&bed, &index.tar(), &store, "image might be filtered out").await;
    let index = layout("digest", r#"{"manifests":[{"digest":"sha256:0","size":1}]}"#);
    refused(&bed, &index.tar(), &store, "invalid checksum digest length").await;
    let files = layout("version", "{}");
    files.put("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#);
    refused(&bed, &files.tar(), &store, "is a layout of the version \"2.0.0\"").await;
    let files = Files::new(work.join("no-index"));
    files.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    refused(&bed, &files.tar(), &store, "without an index.json").await;
    let files = Files::new(work.join("no-layer"));
    let image = json!([{ "Config": "c", "RepoTags": ["a"], "Layers": ["missing"] }]);
    files.put("c", b"{}");
    files.put("manifest.json", image.to_string().as_bytes());
    refused(&bed, &files.tar(), &store, "with a layer \"missing\", which it does not have").await;
    bed.server.finish().await;
}

/// Many ways lead to one index; each is followed once. An index that contains itself would need its own digest.
#[tokio::test]
async fn indexes_of_indexes_are_read_once() {
    let Some(bed) = Bed::start().await else { return };
    let files = Files::new(bed.server.work().join("deep"));
    files.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    let mut index = files.put_blob(INDEX, json!({ "manifests": [] }).to_string().as_bytes());
    for _ in 0..30 {
        let many = json!({ "manifests": vec![index; 20] });
        index = files.put_blob(INDEX, many.to_string().as_bytes());
    }
    files.put("index.json", json!({ "manifests": [index] }).to_string().as_bytes());
    import(&bed, "ns", &files.tar(), &any_name(true)).await.unwrap();
    assert_eq!(names(&bed, "ns").await.len(), 2);
    bed.server.finish().await;
}

/// What is unpacked has to be what the configuration says.
#[tokio::test]
async fn layers_that_are_others_are_not_unpacked() {
    let Some(bed) = Bed::start().await else { return };
    let work = bed.server.work().to_owned();
    let layers = archive::layers(&work);
    let files = |name: &str, config: &[u8], image: [&str; 2]| {
        let files = Files::new(work.join(name));
        files.put("config", config);
        files.put("0", &layers[0]);
        files.put("1", &layers[1]);
        let image = json!([{ "Config": "config", "RepoTags": ["a"], "Layers": image }]);
        files.put("manifest.json", image.to_string().as_bytes());
        files.tar()
    };
    let store = ImageStore { platforms: vec![own_platform()], ..unpacked(any_name(false)) };
    let swapped = files("swapped", &archive::config(&layers), ["1", "0"]);
    refused(&bed, &swapped, &store, "wrong diff id").await;
    let fewer = files("fewer", &archive::config(&layers[..1]), ["0", "1"]);
    refused(&bed, &fewer, &store, "number of layers and diffIDs don't match: 2 != 1").await;
    assert_eq!(names(&bed, "ns").await, Vec::<String>::new());
    let nowhere = |snapshotter: &str| {
        let mut store = unpacked(any_name(false));
        store.unpacks[0].snapshotter = snapshotter.to_owned();
        store
    };
    let whole = files("whole", &archive::config(&layers), ["0", "1"]);
    refused(&bed, &whole, &nowhere("none"), "no unpack platforms defined").await;
    import(&bed, "ns", &whole, &nowhere("native")).await.unwrap();
    bed.server.finish().await;
}
