//! The files of an archive are written to content.

use std::collections::{BTreeMap, HashMap};

use gantry_content::{ContentError, unique};
use gantry_diff::Found;
use gantry_store::{Digest, Labels};
use tokio::sync::mpsc;

use super::{Import, reader::Part};
use crate::{Descriptor, ImageError, MAX_DOCUMENT, media_type};

/// Files of an archive, which is more than any image has layers.
const MOST_FILES: usize = 65_536;

/// Bytes of all their names.
const MOST_NAMES: usize = 8 << 20;

/// The documents that tell what kind of archive it is.
const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
const DOCKER: &str = "manifest.json";

/// What an archive has.
#[derive(Default)]
pub(super) struct Written {
    /// By name; digest and size of each.
    pub(super) blobs: HashMap<String, (Digest, u64)>,
    /// The targets of links, by the links' names.
    pub(super) links: BTreeMap<String, String>,
    /// The document `oci-layout`.
    pub(super) layout: Option<Vec<u8>>,
    /// The document `manifest.json`.
    pub(super) docker: Option<Vec<u8>>,
    /// The document `index.json`, which is content.
    pub(super) index: Option<Descriptor>,
    /// How many files and links were found, also those of a name that was there before: each costs a write.
    files: usize,
    /// The bytes of all their names.
    names: usize,
}

impl Written {
    /// Counts a file, or a link to a target.
    fn count(&mut self, name: &str, target: &str) -> Result<(), ImageError> {
        self.files += 1;
        self.names += name.len() + target.len();
        if name.is_empty() {
            return Err(ImageError::Archive("has a file or link without a name".to_owned()));
        }
        if self.files > MOST_FILES {
            return Err(ImageError::Archive(format!("has more than {MOST_FILES} files")));
        }
        if self.names > MOST_NAMES {
            let problem = format!("has files with names of more than {MOST_NAMES} bytes in all");
            return Err(ImageError::Archive(problem));
        }
        Ok(())
    }
}

impl Import {
    /// Writes all files.
    pub(super) async fn write_all(
        &self,
        mut parts: mpsc::Receiver<Part>,
    ) -> Result<Written, ImageError> {
        let (mut written, mut ahead) = (Written::default(), None);
        loop {
            let part = match ahead.take() {
                Some(part) => part,
                None => next(&mut parts).await?,
            };
            match part {
                // What is left of a file that was there already.
                Part::Data(_) => {}
                Part::End => return Ok(written),
                Part::Failure(error) => return Err(error.into()),
                Part::Found(Found::Symlink { name, target }) => {
                    // Nothing can refer to names of other bytes.
                    let (Ok(name), Ok(target)) = (text(name), text(target)) else { continue };
                    let directory = match name.rfind('/') {
                        None => ".",
                        Some(0) => "/",
                        Some(slash) => &name[..slash],
                    };
                    let target = cleaned(&format!("{directory}/{target}"));
                    let name = cleaned(&name);
                    written.count(&name, &target)?;
                    written.links.insert(name, target);
                }
                Part::Found(Found::File { name, size }) => {
                    let Ok(name) = text(name).map(|name| cleaned(&name)) else { continue };
                    written.count(&name, "")?;
                    ahead = Some(self.write_file(&mut written, name, size, &mut parts).await?);
                }
            }
        }
    }

    /// Writes a file; gives the part that comes behind its data.
    async fn write_file(
        &self,
        written: &mut Written,
        name: String,
        size: u64,
        parts: &mut mpsc::Receiver<Part>,
    ) -> Result<Part, ImageError> {
        if ![LAYOUT, INDEX, DOCKER].contains(&&*name) {
            let (digest, next) = self.write_blob(&name, size, parts).await?;
            written.blobs.insert(name, (digest, size));
            return Ok(next);
        }
        if size > MAX_DOCUMENT {
            let problem = format!("has a {name} of {size} bytes, at most {MAX_DOCUMENT} are read");
            return Err(ImageError::Archive(problem));
        }
        let mut document = Vec::new();
        let next = loop {
            match next(parts).await? {
                Part::Data(data) => document.extend(data),
                other => break other,
            }
        };
        if document.len() as u64 != size {
            return Err(failure(next));
        }
        match &*name {
            LAYOUT => written.layout = Some(document),
            DOCKER => written.docker = Some(document),
            _ => written.index = Some(self.write_document(media_type::INDEX, document).await?),
        }
        Ok(next)
    }

    /// Writes the data of a file; gives its digest, and the part that comes behind them.
    async fn write_blob(
        &self,
        name: &str,
        size: u64,
        parts: &mut mpsc::Receiver<Part>,
    ) -> Result<(Digest, Part), ImageError> {
        let expected = named_digest(name);
        if let Some(expected) = &expected
            && self.has(expected, size).await?
        {
            return Ok((expected.clone(), next(parts).await?));
        }
        let reference = new_reference();
        let (namespace, lease) = (&self.namespace, Some(self.lease.clone()));
        let mut writer =
            self.content.writer(namespace, reference.clone(), size, None, lease).await?;
        let mut written = async || {
            let next = loop {
                match next(parts).await? {
                    Part::Data(data) => writer.write(data).await?,
                    other => break other,
                }
            };
            if writer.offset() != size { Err(failure(next)) } else { Ok(next) }
        };
        let next = match written().await {
            Ok(next) => next,
            Err(error) => {
                drop(writer);
                self.give_up(&reference).await;
                return Err(error);
            }
        };
        match writer.commit(size, expected, Labels::new()).await {
            Ok(digest) | Err(ContentError::Exists(digest)) => Ok((digest, next)),
            Err(error) => {
                self.give_up(&reference).await;
                Err(match error {
                    ContentError::Digest { actual, .. } => ImageError::Archive(format!(
                        "has a file {name} of another digest, which is {actual}"
                    )),
                    error => error.into(),
                })
            }
        }
    }

    /// Whether the namespace has a blob of this size. The lease keeps it.
    async fn has(&self, digest: &Digest, size: u64) -> Result<bool, ImageError> {
        let (store, lease) = (self.content.store(), Some(self.lease.clone()));
        if !store.lease_blob(&self.namespace, digest, lease).await? {
            return Ok(false);
        }
        Ok(store.blob(&self.namespace, digest).await?.size == size)
    }

    /// Writes a document that is not part of the archive, or was read whole.
    pub(super) async fn write_document(
        &self,
        media_type: &str,
        document: Vec<u8>,
    ) -> Result<Descriptor, ImageError> {
        let (reference, size) = (new_reference(), document.len() as u64);
        let (namespace, lease) = (&self.namespace, Some(self.lease.clone()));
        let mut writer =
            self.content.writer(namespace, reference.clone(), size, None, lease).await?;
        let committed = match writer.write(document).await {
            Ok(()) => writer.commit(size, None, Labels::new()).await,
            Err(error) => {
                drop(writer);
                Err(error)
            }
        };
        match committed {
            Ok(digest) | Err(ContentError::Exists(digest)) => {
                Ok(Descriptor::new(media_type, digest, size))
            }
            Err(error) => {
                self.give_up(&reference).await;
                Err(error.into())
            }
        }
    }

    /// Gives up a write that is not committed.
    pub(super) async fn give_up(&self, reference: &str) {
        if let Err(error) = self.content.abort(&self.namespace, reference).await {
            tracing::warn!(%error, reference, "a write stays until it is stale");
        }
    }
}

/// The next part. There is always a last one.
async fn next(parts: &mut mpsc::Receiver<Part>) -> Result<Part, ImageError> {
    let fault = || ImageError::Archive("is not read to its end: the server has a fault".to_owned());
    parts.recv().await.ok_or_else(fault)
}

/// Why a file has fewer data than it should have.
fn failure(next: Part) -> ImageError {
    match next {
        Part::Failure(error) => error.into(),
        _ => ImageError::Archive("ends before its end".to_owned()),
    }
}

/// Of a write that no other transfer has.
pub(super) fn new_reference() -> String {
    let (now, number) = unique();
    format!("import-{now}-{number}")
}

fn text(name: Vec<u8>) -> Result<String, std::string::FromUtf8Error> {
    String::from_utf8(name)
}

/// The digest that the name of a blob in a layout has.
fn named_digest(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.strip_prefix("blobs/")?.split_once('/')?;
    Digest::parse(&format!("{algorithm}:{hex}")).ok()
}

/// The same name without empty parts, `.` and `..`, as Go's path.Clean has it.
fn cleaned(name: &str) -> String {
    let is_absolute = name.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_absolute => {}
            other => parts.push(other),
        }
    }
    format!("{}{}", if is_absolute { "/" } else { "" }, parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_as_go_does_it() {
        for (name, clean) in [
            ("./index.json", "index.json"),
            ("a//b/./c", "a/b/c"),
            ("a/../b", "b"),
            ("../a", "../a"),
            ("../../a/..", "../.."),
            ("/../a", "/a"),
            ("a/", "a"),
        ] {
            assert_eq!(cleaned(name), clean);
        }
    }

    #[test]
    fn a_blob_of_a_layout_is_named_by_its_digest() {
        let hex = "0a".repeat(32);
        let digest = named_digest(&format!("blobs/sha256/{hex}")).unwrap();
        assert_eq!(digest.as_str(), format!("sha256:{hex}"));
        for other in ["blobs/sha256/0a", "blobs/x", "index.json", &format!("x/sha256/{hex}")] {
            assert_eq!(named_digest(other), None, "{other}");
        }
    }

    #[test]
    fn files_and_names_are_counted() {
        let mut written = Written::default();
        let name = "x".repeat(1 << 19);
        let counted = (0..9).map(|_| written.count(&name, &name)).filter(Result::is_ok).count();
        assert_eq!(counted, 8);
        // Those of one name, too.
        let mut written = Written::default();
        let counted = (0..70_000).map_while(|_| written.count("x", "").ok()).count();
        assert_eq!(counted, MOST_FILES);
        let error = written.count("x", "").unwrap_err().to_string();
        assert_eq!(error, "the archive has more than 65536 files: invalid argument");
        let error = Written::default().count(&cleaned("."), "").unwrap_err().to_string();
        assert_eq!(error, "the archive has a file or link without a name: invalid argument");
    }
}
