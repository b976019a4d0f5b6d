//! Directories and files of the host, and empty ones in memory, that a container has at places of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use gantry_client::oci_spec::runtime::{Mount, MountBuilder};

use super::unusable;
use crate::failure::Failure;

/// What is mounted in a container beside what all have.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct MountOptions {
    /// Mount something: type=bind,src=PATH,dst=PATH,options=OPTION:OPTION...; type=tmpfs needs no src; may be repeated
    #[arg(long, value_name = "MOUNT")]
    pub(crate) mount: Vec<MountOption>,
    /// Mount a file or directory of the host; it must be there
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    pub(crate) volume: Vec<Volume>,
    /// Mount an empty directory in memory, with options of tmpfs(5)
    #[arg(long, value_name = "DST[:OPTION,OPTION...]")]
    pub(crate) tmpfs: Vec<Tmpfs>,
}

/// One value of `--mount`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountOption {
    kind: String,
    source: Option<PathBuf>,
    destination: PathBuf,
    options: Vec<String>,
}

/// One value of `--volume`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Volume(MountOption);

/// One value of `--tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tmpfs(MountOption);

/// What docker gives a tmpfs; what is said counts more.
const TMPFS: [&str; 3] = ["nosuid", "nodev", "noexec"];

impl FromStr for MountOption {
    type Err = String;

    /// ctr's form, with docker's names beside.
    fn from_str(text: &str) -> Result<MountOption, String> {
        let (mut kind, mut source, mut destination) = ("bind", None, None);
        let mut options = Vec::new();
        for field in text.split(',') {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            match key {
                "type" => kind = value,
                "src" | "source" => source = Some(value),
                "dst" | "destination" | "target" => destination = Some(value),
                "options" => options.extend(value.split(':').map(str::to_owned)),
                "ro" | "readonly" if value.is_empty() || value == "true" => {
                    options.push("ro".into());
                }
                _ => {
                    return Err(format!(
                        "{text:?}: {field:?}: want type=, src=, dst=, options= or ro"
                    ));
                }
            }
        }
        let destination = absolute(text, destination.unwrap_or_default())?;
        let has_option = |names: &[&str]| options.iter().any(|it| names.contains(&it.as_str()));
        match kind {
            "bind" if source.is_none_or(str::is_empty) => {
                return Err(format!("{text:?}: type=bind needs src="));
            }
            "bind" if !has_option(&["bind", "rbind"]) => options.insert(0, "rbind".into()),
            "tmpfs" => options.splice(0..0, TMPFS.map(str::to_owned)).for_each(drop),
            "" => return Err(format!("{text:?}: type= is empty")),
            _ => {}
        }
        if kind == "bind" && !options.iter().any(|it| PROPAGATIONS.contains(&it.as_str())) {
            options.push("rprivate".into());
        }
        let source = source.filter(|source| !source.is_empty()).map(PathBuf::from);
        Ok(MountOption { kind: kind.to_owned(), source, destination, options })
    }
}

/// How mounts that are made later are seen on the other side, see mount_namespaces(7).
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "shared", "rshared", "slave", "rslave"];

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Volume, String> {
        let (source, destination, given) = match text.split(':').collect::<Vec<_>>()[..] {
            [source, destination] => (source, destination, ""),
            [source, destination, options] => (source, destination, options),
            _ => return Err(format!("{text:?}: want SRC:DST or SRC:DST:ro")),
        };
        if !source.contains('/') && !source.starts_with('.') {
            return Err(format!(
                "{text:?}: {source:?} is no path; volumes with names are a daemon's"
            ));
        }
        let mut options = vec!["rbind".to_owned()];
        // "rw" is the default, and no option of mount(2) that a bind mount takes.
        options
            .extend(given.split(',').filter(|it| !it.is_empty() && *it != "rw").map(str::to_owned));
        if let Some(bad) =
            options[1..].iter().find(|it| *it != "ro" && !PROPAGATIONS.contains(&it.as_str()))
        {
            return Err(format!("{text:?}: {bad:?}: want ro, rw, or a propagation such as rslave"));
        }
        if !options.iter().any(|it| PROPAGATIONS.contains(&it.as_str())) {
            options.push("rprivate".into());
        }
        let destination = absolute(text, destination)?;
        let kind = "bind".to_owned();
        Ok(Volume(MountOption { kind, source: Some(source.into()), destination, options }))
    }
}

impl FromStr for Tmpfs {
    type Err = String;

    fn from_str(text: &str) -> Result<Tmpfs, String> {
        let (destination, given) = text.split_once(':').unwrap_or((text, ""));
        let given = given.split(',').filter(|option| !option.is_empty());
        let options = TMPFS.into_iter().chain(given).map(str::to_owned).collect();
        let destination = absolute(text, destination)?;
        Ok(Tmpfs(MountOption { kind: "tmpfs".to_owned(), source: None, destination, options }))
    }
}

fn absolute(text: &str, path: &str) -> Result<PathBuf, String> {
    if !path.starts_with('/') {
        return Err(format!("{text:?}: {path:?} is no absolute path in the container"));
    }
    Ok(path.into())
}

impl MountOptions {
    /// The mounts; what the host must have is there.
    pub(super) fn mounts(&self) -> Result<Vec<Mount>, Failure> {
        let volumes = self.volume.iter().map(|it| (&it.0, "--volume"));
        let tmpfs = self.tmpfs.iter().map(|it| (&it.0, "--tmpfs"));
        let all = self.mount.iter().map(|it| (it, "--mount")).chain(volumes).chain(tmpfs);
        let mut mounts =
            all.map(|(mount, flag)| mount.mount(flag)).collect::<Result<Vec<_>, _>>()?;
        // What is below another one comes after it; of two in one place the last one covers the other.
        mounts.sort_by_key(|mount| mount.destination().components().count());
        Ok(mounts)
    }
}

impl MountOption {
    fn mount(&self, flag: &str) -> Result<Mount, Failure> {
        let source = match &self.source {
            Some(source) if self.kind == "bind" => found(source, flag)?,
            Some(source) => source.clone(),
            None => PathBuf::from(&self.kind),
        };
        MountBuilder::default()
            .destination(&self.destination)
            .typ(&*self.kind)
            .source(source)
            .options(self.options.clone())
            .build()
            .map_err(|e| unusable(&e))
    }
}

/// The absolute path: the server has another working directory.
fn found(path: &Path, flag: &str) -> Result<PathBuf, Failure> {
    fs::canonicalize(path).map_err(|e| Failure::io(format!("{flag}: {}", path.display()), &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(mount: &MountOption) -> String {
        mount.options.join(",")
    }

    #[test]
    fn a_mount_is_written_as_for_ctr_or_docker() {
        let parse = |text: &str| text.parse::<MountOption>();
        let ctrs = parse("type=bind,src=/a,dst=/b,options=rbind:ro").unwrap();
        assert_eq!((ctrs.kind.as_str(), &ctrs.source), ("bind", &Some("/a".into())));
        assert_eq!(options(&ctrs), "rbind,ro,rprivate");
        let dockers = parse("type=bind,source=/a,target=/b,readonly").unwrap();
        assert_eq!(options(&dockers), "rbind,ro,rprivate");
        let memory = parse("type=tmpfs,dst=/b,options=size=1m").unwrap();
        assert_eq!(
            (options(&memory).as_str(), &memory.source),
            ("nosuid,nodev,noexec,size=1m", &None)
        );
        let shared = parse("src=/a,dst=/b,options=bind:rslave").unwrap();
        assert_eq!(options(&shared), "bind,rslave");
        for bad in
            ["", "src=/a,dst=b", "dst=/b", "src=/a", "type=,src=/a,dst=/b", "src=/a,dst=/b,x=y"]
        {
            parse(bad).unwrap_err();
        }
    }

    #[test]
    fn volumes_are_paths() {
        let parse = |text: &str| text.parse::<Volume>();
        assert_eq!(options(&parse("/a:/b").unwrap().0), "rbind,rprivate");
        assert_eq!(options(&parse("./a:/b:rw").unwrap().0), "rbind,rprivate");
        assert_eq!(options(&parse("/a:/b:ro,rslave").unwrap().0), "rbind,ro,rslave");
        for bad in ["", "/a", "a:/b", "/a:b", "/a:/b:rx", "/a:/b:ro:x"] {
            parse(bad).unwrap_err();
        }
    }

    #[test]
    fn outer_mounts_come_first() {
        let wanted = MountOptions {
            mount: Vec::new(),
            volume: vec!["/tmp:/a/b".parse().unwrap()],
            tmpfs: vec!["/a:size=1m,exec".parse().unwrap()],
        };
        let mounts = wanted.mounts().unwrap();
        assert_eq!(mounts[0].destination(), Path::new("/a"));
        assert_eq!(
            mounts[0].options().as_ref().unwrap().join(","),
            "nosuid,nodev,noexec,size=1m,exec"
        );
        let missing = MountOptions { volume: vec!["/no/such:/a".parse().unwrap()], ..wanted };
        assert!(missing.mounts().unwrap_err().to_string().starts_with("--volume: /no/such: "));
    }
}
