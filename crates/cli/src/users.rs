//! Finds a container's users and groups in its own files.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use gantry_api::containerd::types::Mount;
use gantry_client::types::User;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use crate::{failure::Failure, layers};

/// Resolves `USER[:GROUP]`, names or numbers, as `docker run --user` does: the group of a user
/// comes from the container's /etc/passwd, and further groups from its /etc/group unless a group is
/// given.
pub(crate) fn resolve(root: &Path, text: &str) -> Result<User, Failure> {
    let passwd = read_in_root(root, "etc/passwd")?;
    let group = read_in_root(root, "etc/group")?;
    find(text, &passwd, &group).map_err(Failure::new)
}

/// The same, in the files of a root file system that is not mounted. Numbers of both need no file.
pub(crate) fn resolve_in_layers(mounts: &[Mount], text: &str) -> Result<User, Failure> {
    if let Some((uid, gid)) = text.split_once(':')
        && let (Some(uid), Some(gid)) = (number(uid), number(gid))
    {
        return Ok(User { uid, gid, ..User::default() });
    }
    let read = |path: &str| -> Result<String, Failure> {
        let read = layers::read(mounts, path);
        let data = read.map_err(|e| Failure::io(format!("find user {text}: {path}"), &e))?;
        Ok(String::from_utf8_lossy(&data.unwrap_or_default()).into_owned())
    };
    find(text, &read("etc/passwd")?, &read("etc/group")?).map_err(Failure::new)
}

fn find(text: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (user, chosen) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let entry = passwd.lines().map(fields).find(|f| is(f, user));
    let uid = match (number(user), &entry) {
        (Some(uid), _) => uid,
        (None, Some(entry)) => field_number(entry, 2)?,
        (None, None) => return Err(format!("the container has no user {user:?}")),
    };
    if let Some(name) = chosen {
        return Ok(User { uid, gid: find_group(name, group)?, additional_gids: Vec::new() });
    }
    let Some(entry) = entry else { return Ok(User { uid, ..User::default() }) };
    let gid = field_number(&entry, 3)?;
    let member = |f: &Vec<&str>| f.get(3).is_some_and(|m| m.split(',').any(|u| u == entry[0]));
    let groups = group.lines().map(fields).filter(member);
    let mut additional_gids = groups.map(|f| field_number(&f, 2)).collect::<Result<Vec<_>, _>>()?;
    additional_gids.retain(|other| *other != gid);
    Ok(User { uid, gid, additional_gids })
}

fn find_group(name: &str, group: &str) -> Result<u32, String> {
    if let Some(gid) = number(name) {
        return Ok(gid);
    }
    let entry = group.lines().map(fields).find(|f| f[0] == name);
    field_number(&entry.ok_or_else(|| format!("the container has no group {name:?}"))?, 2)
}

/// By name, or by number.
fn is(entry: &[&str], user: &str) -> bool {
    entry[0] == user || (entry.get(2) == Some(&user) && number(user).is_some())
}

fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}

fn field_number(entry: &[&str], index: usize) -> Result<u32, String> {
    let number = entry.get(index).and_then(|f| number(f));
    number.ok_or_else(|| format!("malformed entry of {:?} in the container's files", entry[0]))
}

/// Follows links inside the root only (openat2(2)): the file is the container's to make up. A
/// missing one is empty.
fn read_in_root(root: &Path, path: &str) -> Result<String, Failure> {
    let read = || -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let root = openat(CWD, root, flags | OFlags::DIRECTORY, Mode::empty())?;
        let flags = flags | OFlags::NONBLOCK;
        let file = openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
        let mut text = Vec::new();
        File::from(file).take(1 << 20).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    match read() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.map_err(|e| Failure::io(root.join(path).display(), &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\n";

    fn user(uid: u32, gid: u32, additional_gids: &[u32]) -> User {
        User { uid, gid, additional_gids: additional_gids.to_vec() }
    }

    #[test]
    fn names_and_numbers_are_found() {
        let find = |text| find(text, PASSWD, GROUP);
        assert_eq!(find("web"), Ok(user(33, 34, &[40])));
        assert_eq!(find("33"), Ok(user(33, 34, &[40])));
        assert_eq!(find("web:logs"), Ok(user(33, 40, &[])));
        assert_eq!(find("1000"), Ok(user(1000, 0, &[])));
        assert_eq!(find("1000:1001"), Ok(user(1000, 1001, &[])));
    }

    #[test]
    fn unknown_names_are_refused() {
        for text in ["nobody", "web:nogroup", ""] {
            find(text, PASSWD, GROUP).unwrap_err();
        }
        find("bad", "bad:x:uid", "").unwrap_err();
    }

    #[test]
    fn a_link_cannot_lead_out_of_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("../../secret", root.join("etc/passwd")).unwrap();
        assert_eq!(read_in_root(&root, "etc/passwd").unwrap(), "");
        symlink("/etc/real", root.join("etc/group")).unwrap();
        fs::write(root.join("etc/real"), "inside").unwrap();
        assert_eq!(read_in_root(&root, "etc/group").unwrap(), "inside");
    }
}
