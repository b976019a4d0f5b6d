//! Files of a host. The directory is a caller's: it may be on a file system that does not answer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gantry_disk::{Disks, ReadError, read_regular};

use super::{Given, file};
use crate::RegistryError;

/// The largest `hosts.toml`, and the largest file of certificates.
const MAX_FILE: u64 = 1 << 20;

/// How many entries of a directory are looked at.
const MAX_ENTRIES: usize = 1000;

/// What is configured for `host`: that of the registry itself where nothing is.
pub(super) async fn hosts(
    disks: &Disks,
    root: &Path,
    host: &str,
) -> Result<Vec<Given>, RegistryError> {
    let Some(directory) = directory(disks, root, host).await? else {
        return Ok(vec![Given::default()]);
    };
    let path = directory.join("hosts.toml");
    let text = disks.run("read", &path, |path| read_regular(path, MAX_FILE)).await?;
    match text {
        Ok(text) if !text.is_empty() => {
            let wrong = |problem: String| RegistryError::Hosts { path: path.clone(), problem };
            let text = String::from_utf8(text).map_err(|_| wrong("is not UTF-8".to_owned()))?;
            file::parse(&text, &directory).map_err(wrong)
        }
        Err(ReadError::Io(error)) if error.kind() != io::ErrorKind::NotFound => {
            Err(RegistryError::Hosts { path, problem: error.to_string() })
        }
        Err(error @ (ReadError::NotRegular(_) | ReadError::TooLarge(_))) => {
            Err(RegistryError::Hosts { path, problem: error.to_string() })
        }
        // An empty file is none.
        Ok(_) | Err(ReadError::Io(_)) => Ok(vec![dockers(disks, &directory).await?]),
    }
}

/// The first directory that is there.
async fn directory(
    disks: &Disks,
    root: &Path,
    host: &str,
) -> Result<Option<PathBuf>, RegistryError> {
    let mut names = Vec::new();
    if let Some((name, port)) = host.rsplit_once(':') {
        // Some file systems have no colons.
        names.push(format!("{name}_{port}_"));
    }
    names.extend([host.to_owned(), "_default".to_owned()]);
    for name in names {
        let path = root.join(name);
        match disks.run("look at", &path, |path| fs::metadata(path)).await? {
            Ok(_) => return Ok(Some(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(RegistryError::Hosts { path, problem: error.to_string() }),
        }
    }
    Ok(None)
}

/// Certificates in a directory as Docker has them: `*.crt` are trusted, `*.cert` with `*.key` are shown to the registry.
async fn dockers(disks: &Disks, directory: &Path) -> Result<Given, RegistryError> {
    let list = |path: &Path| -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)?.take(MAX_ENTRIES) {
            names.push(entry?.path());
        }
        names.sort();
        Ok(names)
    };
    let names = disks.run("list", directory, list).await?;
    let names = names.map_err(|error| RegistryError::Hosts {
        path: directory.to_owned(),
        problem: error.to_string(),
    })?;
    let has = |extension: &'static str| {
        move |path: &&PathBuf| path.extension().is_some_and(|found| found == extension)
    };
    let mut given = Given::default();
    given.ca.extend(names.iter().filter(has("crt")).cloned());
    for certificate in names.iter().filter(has("cert")) {
        let key = certificate.with_extension("key");
        given.client.push((certificate.clone(), names.contains(&key).then_some(key)));
    }
    Ok(given)
}

/// Reads what is trusted.
pub(super) async fn certificates(
    disks: &Disks,
    paths: Vec<PathBuf>,
) -> Result<Vec<(PathBuf, Vec<u8>)>, RegistryError> {
    let mut read = Vec::with_capacity(paths.len());
    for path in paths {
        let pem = pem(disks, &path).await?;
        read.push((path, pem));
    }
    Ok(read)
}

/// Reads certificates and their keys; both can be in one file.
pub(super) async fn pairs(
    disks: &Disks,
    paths: Vec<(PathBuf, Option<PathBuf>)>,
) -> Result<Vec<(PathBuf, Vec<u8>, Vec<u8>)>, RegistryError> {
    let mut read = Vec::with_capacity(paths.len());
    for (path, key) in paths {
        let certificate = pem(disks, &path).await?;
        let key = match key {
            Some(key) => pem(disks, &key).await?,
            None => certificate.clone(),
        };
        read.push((path, certificate, key));
    }
    Ok(read)
}

async fn pem(disks: &Disks, path: &Path) -> Result<Vec<u8>, RegistryError> {
    let read = disks.run("read", path, |path| read_regular(path, MAX_FILE)).await?;
    read.map_err(|error| RegistryError::Hosts { path: path.to_owned(), problem: error.to_string() })
}
