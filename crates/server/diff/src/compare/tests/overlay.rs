//! Trees that are given as mounts.

use gantry_domain::Mount;
use gantry_kernel::mount::{in_private, mount_all};

use super::*;
use crate::{apply_to_mounts, diff_mounts};

fn mount(kind: &str, source: &Path, options: &[String]) -> Mount {
    let source = source.to_str().unwrap().to_owned();
    Mount { kind: kind.to_owned(), source, target: String::new(), options: options.to_owned() }
}

fn bind(source: &Path, access: &str) -> Mount {
    mount("bind", source, &["rbind".to_owned(), access.to_owned()])
}

fn layered(dir: &Path, further: &[&str]) -> Mount {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let mut options = vec![
        format!("workdir={}", at("work")),
        format!("upperdir={}", at("upper")),
        format!("lowerdir={}", at("lower")),
    ];
    options.extend(further.iter().map(|option| (*option).to_owned()));
    mount("overlay", Path::new("overlay"), &options)
}

/// Whether something is mounted below the directory.
fn is_mounted_in(dir: &Path) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(dir.to_str().unwrap())
}

#[test]
fn an_upper_directory_makes_the_same_layer_as_the_mounted_trees() {
    let Ok(dir) = tempfile::tempdir() else { return };
    let dir = dir.path();
    for name in ["work", "upper", "lower", "places", "new"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    for name in ["a/old", "a/kept", "gone", "opaque/old", "file"] {
        write(&dir.join("lower").join(name), "1");
    }
    let mut layer = tar::Builder::new(Vec::new());
    for (name, data) in
        [("a/new", "2"), (".wh.gone", ""), ("opaque/.wh..wh..opq", ""), ("opaque/new", "2")]
    {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(5);
        layer.append_data(&mut header, name, data.as_bytes()).unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let cancel = Cancel::default();
    let apply =
        ApplyOptions { packing: Packing::Plain, bounds: Bounds::default(), sync: true, cancel };
    let places = dir.join("places");
    let [right] = [layered(dir, &[])];
    match apply_to_mounts(&*layer, std::slice::from_ref(&right), &places, &apply) {
        Ok(_) => {}
        // Not as an ordinary user.
        Err(error) if !rustix::process::geteuid().is_root() => {
            return eprintln!("skipped: {error}");
        }
        Err(error) => panic!("{error}"),
    }
    let left = [bind(&dir.join("lower"), "ro")];
    let mut quick = Vec::new();
    let fast = diff_mounts(&left, std::slice::from_ref(&right), &places, &mut quick, &options());
    assert!(fast.is_ok());
    let expected = ["a/", "a/new", ".wh.gone", "opaque/", "opaque/.wh..wh..opq", "opaque/new"];
    assert_eq!(listed(&quick), expected);
    // An option that asks for a mount.
    let slow = layered(dir, &["noatime"]);
    let mut thorough = Vec::new();
    diff_mounts(&left, std::slice::from_ref(&slow), &places, &mut thorough, &options()).unwrap();
    let expected = ["a/", "a/new", ".wh.gone", "opaque/", "opaque/new", "opaque/.wh.old"];
    let mut found = listed(&thorough);
    found.sort();
    let mut sorted = expected.to_vec();
    sorted.sort_unstable();
    assert_eq!(found, sorted);
    assert!(!is_mounted_in(dir));

    // Both make the same tree, whether the layer is unpacked through the mount or not.
    for layer in [quick, thorough] {
        let root = dir.join("new");
        fs::remove_dir_all(&root).unwrap();
        fs::create_dir(&root).unwrap();
        let mut lower = Vec::new();
        diff_mounts(&[], &[bind(&dir.join("lower"), "ro")], &places, &mut lower, &options())
            .unwrap();
        unpack(&lower, &root);
        apply_to_mounts(&*layer, &[mount("bind", &root, &["bind".to_owned()])], &places, &apply)
            .unwrap();
        for there in ["a/old", "a/kept", "a/new", "opaque/new", "file"] {
            assert!(root.join(there).exists(), "{there}");
        }
        assert!(!root.join("gone").exists() && !root.join("opaque/old").exists());
    }
    assert!(!is_mounted_in(dir));
}

#[test]
fn what_a_container_has_mounted_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for name in ["work", "upper", "lower", "places", "container"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    write(&dir.join("lower/old"), "1");
    let mounts = [layered(dir, &[])];
    let container = dir.join("container");
    let tried = in_private(|| {
        if let Err(error) = mount_all(&mounts, &container) {
            return eprintln!("skipped: {error}");
        }
        write(&container.join("new"), "2");
        fs::remove_file(container.join("old")).unwrap();
        // The kernel empties the directory when the overlay is mounted.
        let in_use = dir.join("work/work/in use");
        write(&in_use, "");
        let mut layer = Vec::new();
        let left = [bind(&dir.join("lower"), "ro")];
        // An option that asks for a mount.
        let right = [layered(dir, &["noatime"])];
        diff_mounts(&left, &right, &dir.join("places"), &mut layer, &options()).unwrap();
        assert_eq!(listed(&layer), ["new", ".wh.old"]);
        assert!(in_use.exists());
        write(&container.join("more"), "3");
    });
    if let Err(error) = tried {
        eprintln!("skipped: {error}");
    }
}

#[test]
fn what_cannot_be_mounted_is_named_and_nothing_stays() {
    let dir = tempfile::tempdir().unwrap();
    let places = dir.path().join("places");
    let cancel = Cancel::default();
    let apply =
        ApplyOptions { packing: Packing::Plain, bounds: Bounds::default(), sync: false, cancel };
    let missing = [bind(&dir.path().join("missing"), "ro")];
    let error = apply_to_mounts(&[0; 1024][..], &missing, &places, &apply).unwrap_err();
    assert!(error.to_string().contains("mount"), "{error}");
    assert!(!is_mounted_in(dir.path()));
    let missing = [bind(&dir.path().join("missing"), "rw")];
    let error = apply_to_mounts(&[0; 1024][..], &missing, &places, &apply).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}
