//! The content as a whole.

mod collection;
mod damage;
mod full_disk;
mod recovery;
mod sharing;
mod writes;

use std::path::{Path, PathBuf};

use gantry_domain::Namespace;
use gantry_store::{Algorithm, Digest, Labels, Store};
use tempfile::TempDir;

use crate::{Content, ContentError, Writer, hash::Hasher};

/// A content of its own, in a directory that lives as long.
struct Bed {
    dir: TempDir,
    content: Content,
}

impl Bed {
    async fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let content = open(dir.path(), 1).await;
        Self { dir, content }
    }

    /// Ends the server, in order or not, and starts another one.
    async fn restart(&mut self, in_order: bool, boot: u64) {
        if in_order {
            self.content.close().await;
        }
        self.content.store().close().await;
        self.content = open(self.dir.path(), boot).await;
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.content.0.layout.blob(digest)
    }

    fn ingest(&self, reference: &str) -> PathBuf {
        self.content.0.layout.ingest(&namespace("ns"), reference)
    }

    async fn writer(&self, reference: &str) -> Result<Writer, ContentError> {
        self.expecting(reference, 0, None).await
    }

    async fn expecting(
        &self,
        reference: &str,
        total: u64,
        expected: Option<&Digest>,
    ) -> Result<Writer, ContentError> {
        let (reference, expected) = (reference.to_owned(), expected.cloned());
        self.content.writer(&namespace("ns"), reference, total, expected, None).await
    }

    /// Writes a blob.
    async fn put(&self, data: &[u8]) -> Digest {
        let mut writer = self.writer("put").await.unwrap();
        writer.write(data.to_vec()).await.unwrap();
        writer.commit(0, None, Labels::new()).await.unwrap()
    }

    async fn get(&self, digest: &Digest) -> Result<Vec<u8>, ContentError> {
        read(&self.content, "ns", digest, 0, None).await
    }
}

async fn open(dir: &Path, boot: u64) -> Content {
    let (store, recovery) = Store::open(dir).unwrap();
    assert!(recovery.is_clean(), "{recovery}");
    Content::open(dir, store, boot).await.unwrap()
}

fn namespace(name: &str) -> Namespace {
    Namespace::named(name).unwrap()
}

fn digest(data: &[u8]) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(data);
    hasher.digest()
}

async fn read(
    content: &Content,
    ns: &str,
    digest: &Digest,
    offset: u64,
    size: Option<u64>,
) -> Result<Vec<u8>, ContentError> {
    let mut reader = content.read(&namespace(ns), digest, offset, size).await?;
    let mut data = Vec::new();
    while let Some(piece) = reader.next().await? {
        data.extend(piece);
    }
    Ok(data)
}
