//! Trees that callers describe by mounts.
//!
//! A tree that is one directory is used as it is: the source of a bind, or the upper directory of an overlay. Everything else is
//! mounted in a mount namespace of the call's own, so that no mount is left, whatever ends the server. To be compared, overlays
//! are mounted without their upper and work directories, which may be in use.

use std::{
    fs::DirBuilder,
    io::{Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use gantry_domain::Mount;
use gantry_kernel::mount::{in_private, mount_all, overlay_layers, unescaped, unmount_all};

use crate::{
    ApplyOptions, DiffError, DiffOptions, Overlay, Target, Unpacked, apply,
    compare::{self, Upper},
};

/// A layer's tree has the mode of the root directory that containers see.
const ROOT_MODE: u32 = 0o755;

/// Unpacks a layer into what the mounts make up. They are made in an empty directory below `places`, which
/// all calls share.
///
/// # Errors
/// As [`apply()`], or if something cannot be mounted.
pub fn apply_to_mounts<R: Read + Send>(
    layer: R,
    mounts: &[Mount],
    places: &Path,
    options: &ApplyOptions,
) -> Result<Unpacked, DiffError> {
    if let Some(target) = target(mounts) {
        return apply(layer, &target, options);
    }
    mounted(&[("left", mounts)], places, |roots| {
        let root = roots[0].clone();
        apply(layer, &Target { root, overlay: None }, options)
    })
}

/// Writes the layer that makes what the mounts `right` make up of what `left` do.
///
/// # Errors
/// As [`crate::diff`], or if something cannot be mounted.
pub fn diff_mounts<W: Write + Send>(
    left: &[Mount],
    right: &[Mount],
    places: &Path,
    output: W,
    options: &DiffOptions,
) -> Result<Unpacked, DiffError> {
    if let Some(upper) = upper_of_same(left, right)
        && !compare::depends_on_lower(&upper, &options.cancel)?
    {
        return compare::diff_upper(&upper, output, options);
    }
    // A container may have mounted the same: the kernel empties the work directory of an overlay that it mounts.
    let [left, right] = [left, right].map(read_only);
    mounted(&[("left", &left), ("right", &right)], places, |roots| {
        compare::diff(&roots[0], &roots[1], output, options)
    })
}

/// The tree, if it is one directory, and can be written there as through the mount.
fn target(mounts: &[Mount]) -> Option<Target> {
    let [mount] = mounts else { return None };
    if let Some(root) = bound(mount, &["rw"]) {
        return Some(Target { root, overlay: None });
    }
    let options = overlay(mount)?;
    let has_user_attributes = options.has_user_attributes;
    let root = options.upper?;
    Some(Target { root, overlay: Some(Overlay { lower: options.lower, has_user_attributes }) })
}

/// The source of a recursive bind without a target and options but for these.
fn bound(mount: &Mount, others: &[&str]) -> Option<PathBuf> {
    let is_plain = matches!(&*mount.kind, "bind" | "rbind")
        && mount.target.is_empty()
        && mount.source.starts_with('/')
        && (mount.kind == "rbind" || mount.options.iter().any(|option| option == "rbind"))
        && mount.options.iter().all(|option| option == "rbind" || others.contains(&&**option));
    is_plain.then(|| PathBuf::from(&mount.source))
}

/// What an overlay consists of.
struct Layers {
    upper: Option<PathBuf>,
    lower: Vec<PathBuf>,
    has_user_attributes: bool,
}

/// `None` of something else, or with options that change what is seen.
fn overlay(mount: &Mount) -> Option<Layers> {
    if mount.kind != "overlay" || !mount.target.is_empty() {
        return None;
    }
    let mut layers = Layers { upper: None, lower: Vec::new(), has_user_attributes: false };
    for option in &mount.options {
        match option.split_once('=') {
            Some(("upperdir", path)) => layers.upper = Some(unescaped(path).into()),
            Some(("lowerdir", paths)) => {
                let paths = overlay_layers(paths).into_iter();
                layers.lower = paths.map(|path| unescaped(path).into()).collect();
            }
            Some((
                "workdir" | "index" | "xino" | "metacopy" | "redirect_dir" | "nfs_export",
                _,
            )) => {}
            None if option == "userxattr" => layers.has_user_attributes = true,
            None if matches!(&**option, "rw" | "volatile") => {}
            _ => return None,
        }
    }
    layers.upper.iter().chain(&layers.lower).all(|path| path.is_absolute()).then_some(layers)
}

/// What the right tree has beside the left one, if both are made of the same layers.
fn upper_of_same(left: &[Mount], right: &[Mount]) -> Option<Upper> {
    let [right] = right else { return None };
    // Of the layers of an overlay only the lower ones can have mapped ids: the upper directory is seen as it is.
    let is_map = |option: &String| option.starts_with("uidmap=") || option.starts_with("gidmap=");
    let mut right = right.clone();
    if right.kind == "overlay" {
        right.options.retain(|option| !is_map(option));
    }
    let right = &right;
    let lower = match left {
        [] => {
            let root = bound(right, &["rw", "ro"])?;
            return Some(Upper { root, notes: None });
        }
        [one] => match bound(one, &["rw", "ro"]) {
            Some(root) => vec![root],
            None => overlay(one).filter(|layers| layers.upper.is_none())?.lower,
        },
        _ => return None,
    };
    let layers = overlay(right)?;
    let notes = if layers.has_user_attributes { "user.overlay." } else { "trusted.overlay." };
    let root = layers.upper.filter(|_| layers.lower == lower)?;
    Some(Upper { root, notes: Some(notes) })
}

/// The same trees, with overlays that cannot be written: the upper directory is the nearest of the lower ones.
fn read_only(mounts: &[Mount]) -> Vec<Mount> {
    mounts.iter().map(|mount| without_upper(mount).unwrap_or_else(|| mount.clone())).collect()
}

/// `None` if it is no overlay with an upper directory.
fn without_upper(mount: &Mount) -> Option<Mount> {
    if mount.kind != "overlay" {
        return None;
    }
    let value = |key| mount.options.iter().rev().find_map(|option| option.strip_prefix(key));
    let (upper, lower) = (value("upperdir=")?, value("lowerdir=")?);
    // These need an upper directory.
    let left_out = ["upperdir=", "lowerdir=", "workdir=", "volatile", "index=on", "nfs_export=on"];
    let mut options = mount.options.clone();
    options.retain(|option| !left_out.iter().any(|begin| option.starts_with(begin)));
    if mount.options.iter().any(|option| option == "index=on") {
        // With an index, layers that another overlay uses are refused.
        options.push("index=off".to_owned());
    }
    options.push(format!("lowerdir={}:{lower}", escaped(&unescaped(upper))));
    Some(Mount { options, ..mount.clone() })
}

/// A path as one of several in an option.
fn escaped(path: &str) -> String {
    path.chars().fold(String::new(), |mut text, character| {
        if matches!(character, '\\' | ':' | ',') {
            text.push('\\');
        }
        text.push(character);
        text
    })
}

/// Has `work` see lists of mounts, each in an empty directory of its name.
fn mounted<T: Send>(
    lists: &[(&str, &[Mount])],
    places: &Path,
    work: impl FnOnce(&[PathBuf]) -> Result<T, DiffError> + Send,
) -> Result<T, DiffError> {
    let place = |name: &str| {
        let root = places.join(name);
        let made = DirBuilder::new().recursive(true).mode(ROOT_MODE).create(&root);
        let made = made.and_then(|()| root.canonicalize());
        made.map_err(DiffError::io("make", root.as_os_str().as_encoded_bytes()))
    };
    let roots: Vec<PathBuf> =
        lists.iter().map(|(name, _)| place(name)).collect::<Result<_, _>>()?;
    let done = in_private(|| {
        let mounting = lists.iter().zip(&roots);
        let mut mounting = mounting.map(|((_, mounts), root)| mount_all(mounts, root));
        let result = mounting.try_for_each(|mounted| mounted.map_err(DiffError::Mount));
        let result = result.and_then(|()| work(&roots));
        // With the thread they end, too, but later: the caller may mount the same again.
        for root in &roots {
            if let Err(error) = unmount_all(root) {
                tracing::warn!(%error, "a mount of a layer is not unmounted, but ends with its thread");
            }
        }
        result
    });
    done.map_err(DiffError::Private)?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, source: &str, options: &[&str]) -> Mount {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        let (kind, source) = (kind.to_owned(), source.to_owned());
        Mount { kind, source, target: String::new(), options }
    }

    #[test]
    fn what_is_one_directory_is_not_mounted() {
        let plain = target(&[mount("bind", "/a", &["rbind", "rw"])]).unwrap();
        assert_eq!(plain, Target { root: "/a".into(), overlay: None });
        let options = ["workdir=/w", "upperdir=/u", r"lowerdir=/a\:b:/c", "index=off"];
        let layers = target(&[mount("overlay", "overlay", &options)]).unwrap();
        assert_eq!(layers.root, Path::new("/u"));
        let overlay = layers.overlay.unwrap();
        assert_eq!(overlay.lower, [Path::new("/a:b"), Path::new("/c")]);
        for other in [
            mount("bind", "/a", &["rbind", "ro"]),
            mount("bind", "/a", &["bind", "rw"]),
            mount("overlay", "overlay", &["lowerdir=/a:/b"]),
            mount("overlay", "overlay", &["upperdir=/u", "lowerdir=/a", "uidmap=0:1:2"]),
            mount("overlay", "overlay", &["upperdir=/u", "lowerdir=/a", "ro"]),
            mount("tmpfs", "tmpfs", &[]),
        ] {
            assert_eq!(target(std::slice::from_ref(&other)), None, "{other:?}");
        }
        let twice = mount("bind", "/a", &["rbind", "rw"]);
        assert_eq!(target(&[twice.clone(), twice]), None);
    }

    #[test]
    fn overlays_are_compared_without_what_a_container_may_have_mounted() {
        let options =
            ["workdir=/w", "index=off", r"upperdir=/u\:\\x:y", "volatile", "lowerdir=/a:/b"];
        let writable = mount("overlay", "o", &[&options[..], &["metacopy=on", "noatime"]].concat());
        let options = ["index=off", "metacopy=on", "noatime", r"lowerdir=/u\:\\x\:y:/a:/b"];
        let others = [
            mount("bind", "/a", &["rbind", "rw"]),
            mount("overlay", "o", &["lowerdir=/a:/b"]),
            mount("tmpfs", "upperdir=", &["upperdir=/a", "lowerdir=/b"]),
        ];
        let indexed = mount("overlay", "o", &["index=on", "upperdir=/u", "lowerdir=/a"]);
        let plain = mount("overlay", "o", &["index=off", "lowerdir=/u:/a"]);
        assert_eq!(without_upper(&indexed), Some(plain));
        let read_only = read_only(&[std::slice::from_ref(&writable), &others[..]].concat());
        assert_eq!(read_only[0], mount("overlay", "o", &options));
        assert_eq!(read_only[1..], others);
        // A bare colon is one of the upper directory's, which is only one.
        assert!(overlay(&writable).is_none());
        let plain =
            mount("overlay", "o", &writable.options[..5].iter().map(|o| &**o).collect::<Vec<_>>());
        assert_eq!(overlay(&plain).unwrap().upper.unwrap(), Path::new(r"/u:\x:y"));
    }

    #[test]
    fn only_the_same_layers_make_an_upper_directory_the_difference() {
        let right = |lower: &str| {
            let options = ["workdir=/w", "upperdir=/u", &format!("lowerdir={lower}")];
            [mount("overlay", "overlay", &options)]
        };
        let one = [mount("bind", "/a", &["ro", "rbind"])];
        let two = [mount("overlay", "overlay", &["lowerdir=/a:/b"])];
        let upper = |left: &[Mount], right: &[Mount]| {
            upper_of_same(left, right).map(|upper| (upper.root, upper.notes.is_some()))
        };
        assert_eq!(upper(&one, &right("/a")), Some(("/u".into(), true)));
        let mut mapped = right("/a");
        mapped[0].options.extend(["uidmap=0:1:2".to_owned(), "gidmap=0:1:2".to_owned()]);
        assert_eq!(upper(&one, &mapped), Some(("/u".into(), true)));
        assert_eq!(upper(&two, &right("/a:/b")), Some(("/u".into(), true)));
        assert_eq!(upper(&[], &[mount("bind", "/a", &["rbind"])]), Some(("/a".into(), false)));
        assert_eq!(upper(&one, &right("/a:/b")), None);
        assert_eq!(upper(&two, &right("/b:/a")), None);
        assert_eq!(upper(&[], &right("/a")), None);
        assert_eq!(upper(&right("/a"), &right("/a")), None);
    }
}
