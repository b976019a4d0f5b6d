//! Files of a root file system that is not mounted: found in the directories that it is made of, as an overlay shows them.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::OwnedFd,
    path::PathBuf,
};

use gantry_api::containerd::types::Mount;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, getxattr, openat, readlinkat, statat},
    io::Errno,
};

/// Links that are followed; the kernel's own number.
const MOST_LINKS: usize = 40;

/// Larger files are cut off there.
const LARGEST: u64 = 1 << 20;

/// A directory as an overlay shows it: those of its layers that have it, the uppermost first.
type Merged = Vec<OwnedFd>;

/// A name that was looked up.
enum Found {
    Directory(Merged),
    File(OwnedFd),
    Link(Vec<u8>),
    Nothing,
}

/// The content of a file below the root of these mounts, following links inside of it only; none if it is not there.
pub(crate) fn read(mounts: &[Mount], path: &str) -> io::Result<Option<Vec<u8>>> {
    let root = root(mounts)?;
    let mut open: Vec<Merged> = vec![clone(&root)?];
    let mut names: Vec<Vec<u8>> = parts(path.as_bytes());
    let mut links = 0;
    while let Some(name) = names.pop() {
        if name == b".." {
            if open.len() > 1 {
                open.pop();
            }
            continue;
        }
        let Some(here) = open.last() else { break };
        match look_up(here, &name)? {
            Found::Nothing => return Ok(None),
            Found::Directory(merged) => open.push(merged),
            Found::File(file) if names.is_empty() => {
                let mut data = Vec::new();
                File::from(file).take(LARGEST).read_to_end(&mut data)?;
                return Ok(Some(data));
            }
            Found::File(_) => return Err(io::ErrorKind::NotADirectory.into()),
            Found::Link(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                if target.first() == Some(&b'/') {
                    open = vec![clone(&root)?];
                }
                names.extend(parts(&target));
            }
        }
    }
    Err(io::ErrorKind::IsADirectory.into())
}

/// The names of a path, the last one first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let names = path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
    names.rev().map(<[u8]>::to_vec).collect()
}

/// The directories of a bind or an overlay, as snapshots have them.
fn directories(mounts: &[Mount]) -> Option<Vec<PathBuf>> {
    let [mount] = mounts else { return None };
    match mount.r#type.as_str() {
        "bind" => Some(vec![mount.source.clone().into()]),
        "overlay" => {
            let option = |name| mount.options.iter().find_map(|option| option.strip_prefix(name));
            let lower = option("lowerdir=").into_iter().flat_map(|lower| lower.split(':'));
            Some(option("upperdir=").into_iter().chain(lower).map(PathBuf::from).collect())
        }
        _ => None,
    }
}

fn root(mounts: &[Mount]) -> io::Result<Merged> {
    let unknown = || io::Error::other("its snapshot is neither a bind nor an overlay");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: PathBuf| {
        let opened = openat(CWD, &path, flags, Mode::empty());
        opened.map_err(|e| {
            io::Error::new(io::Error::from(e).kind(), format!("{}: {e}", path.display()))
        })
    };
    directories(mounts).ok_or_else(unknown)?.into_iter().map(open).collect()
}

fn clone(merged: &Merged) -> io::Result<Merged> {
    merged.iter().map(OwnedFd::try_clone).collect()
}

fn look_up(here: &Merged, name: &[u8]) -> io::Result<Found> {
    let mut directory = Merged::new();
    for layer in here {
        let stat = match statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let opened = openat(layer, name, flags | OFlags::DIRECTORY, Mode::empty())?;
                let hides_lower = is_opaque(&opened);
                directory.push(opened);
                if hides_lower {
                    break;
                }
            }
            // What is below a file or a whiteout (0:0) is hidden.
            _ if !directory.is_empty() => break,
            FileType::RegularFile => {
                return Ok(Found::File(openat(layer, name, flags, Mode::empty())?));
            }
            FileType::Symlink => {
                return Ok(Found::Link(readlinkat(layer, name, Vec::new())?.into_bytes()));
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(Found::Nothing),
            _ => return Err(io::Error::other("neither a file nor a directory")),
        }
    }
    Ok(if directory.is_empty() { Found::Nothing } else { Found::Directory(directory) })
}

/// Whether an overlay shows nothing of lower layers in this directory.
fn is_opaque(directory: &OwnedFd) -> bool {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(directory));
    ["trusted.overlay.opaque", "user.overlay.opaque"].into_iter().any(|name| {
        let mut value = [0; 1];
        getxattr(&path, name, &mut value[..]).is_ok() && value == *b"y"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink, path::Path};

    fn overlay(dir: &Path, layers: &[&str]) -> Vec<Mount> {
        let at = |name: &&str| dir.join(name).to_str().unwrap().to_owned();
        let lower: Vec<_> = layers[1..].iter().map(at).collect();
        let options =
            vec![format!("upperdir={}", at(&layers[0])), format!("lowerdir={}", lower.join(":"))];
        vec![Mount { r#type: "overlay".to_owned(), options, ..Mount::default() }]
    }

    fn text(mounts: &[Mount], path: &str) -> Option<String> {
        read(mounts, path).unwrap().map(|data| String::from_utf8(data).unwrap())
    }

    #[test]
    fn the_uppermost_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        for layer in ["a", "b", "c"] {
            fs::create_dir_all(dir.path().join(layer).join("etc")).unwrap();
        }
        fs::write(dir.path().join("c/etc/passwd"), "lowest").unwrap();
        fs::write(dir.path().join("b/etc/passwd"), "middle").unwrap();
        fs::write(dir.path().join("c/etc/group"), "group").unwrap();
        let mounts = overlay(dir.path(), &["a", "b", "c"]);
        assert_eq!(text(&mounts, "etc/passwd").unwrap(), "middle");
        assert_eq!(text(&mounts, "etc/group").unwrap(), "group");
        assert_eq!(text(&mounts, "etc/shadow"), None);
        assert_eq!(text(&mounts, "no/such"), None);
        // As a file in an upper layer hides the directory.
        fs::write(dir.path().join("a/no"), "file").unwrap();
        read(&mounts, "no/such").unwrap_err();
        let single = Mount {
            r#type: "bind".to_owned(),
            source: dir.path().join("b").to_str().unwrap().to_owned(),
            ..Mount::default()
        };
        assert_eq!(text(&[single], "/etc/passwd").unwrap(), "middle");
        read(&[], "etc/passwd").unwrap_err();
    }

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("b/etc")).unwrap();
        fs::create_dir_all(dir.path().join("a/etc")).unwrap();
        fs::create_dir_all(dir.path().join("b/real")).unwrap();
        fs::write(dir.path().join("outside"), "outside").unwrap();
        fs::write(dir.path().join("b/real/passwd"), "inside").unwrap();
        let mounts = overlay(dir.path(), &["a", "b"]);
        let out = dir.path().join("outside");
        for (target, expected) in [
            ("../real/passwd", Some("inside")),
            ("/real/passwd", Some("inside")),
            ("../../../real/./passwd", Some("inside")),
            ("../../outside", None),
            (out.to_str().unwrap(), None),
        ] {
            symlink(target, dir.path().join("a/etc/passwd")).unwrap();
            assert_eq!(text(&mounts, "etc/passwd").as_deref(), expected, "{target}");
            fs::remove_file(dir.path().join("a/etc/passwd")).unwrap();
        }
        symlink("passwd", dir.path().join("a/etc/passwd")).unwrap();
        let endless = read(&mounts, "etc/passwd").unwrap_err();
        assert_eq!(endless.raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn what_an_upper_layer_has_deleted_is_not_there() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        for layer in ["a/etc", "b/etc", "a/opaque", "b/opaque"] {
            fs::create_dir_all(dir.path().join(layer)).unwrap();
        }
        for file in ["b/etc/passwd", "b/opaque/f"] {
            fs::write(dir.path().join(file), "deleted").unwrap();
        }
        let whiteout = dir.path().join("a/etc/passwd");
        rustix::fs::mknodat(CWD, &whiteout, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        let opaque = dir.path().join("a/opaque");
        let name = "trusted.overlay.opaque";
        rustix::fs::setxattr(&opaque, name, b"y", rustix::fs::XattrFlags::empty()).unwrap();
        let mounts = overlay(dir.path(), &["a", "b"]);
        assert_eq!(text(&mounts, "etc/passwd"), None);
        assert_eq!(text(&mounts, "opaque/f"), None);
    }
}
