//! What an earlier server has left in the middle of something.

use std::{
    collections::HashSet,
    fs::{self, ReadDir},
    io,
    path::{Path, PathBuf},
};

use gantry_disk::{MayWait, OwnFiles};
use gantry_store::{Algorithm, ContentState, Digest, Store};

use crate::{
    ContentError, hash,
    layout::{self, ALGORITHMS, Layout},
};

/// How many names are compared with the store at a time.
const BATCH: usize = 1000;

/// Removes files without a record; of another boot, those of all writes under way. Nobody has synced the removal of a
/// file: after a boot one may be there again.
pub(crate) async fn clear(
    store: &Store,
    files: &OwnFiles,
    layout: &Layout,
    state: ContentState,
) -> Result<(), ContentError> {
    let mut removed = 0;
    if state.has_strays || !state.is_same_boot {
        for algorithm in ALGORITHMS {
            removed += blobs(store, files, layout.blobs(algorithm), algorithm).await?;
        }
    }
    if !state.was_closed || !state.is_same_boot {
        let names = store.ingest_names(hash::name_of);
        let mut names: HashSet<_> = names.await?.into_iter().collect();
        if !state.is_same_boot {
            names.clear();
        }
        let dir = layout.ingests();
        removed += files.run(move |_: &MayWait| ingests(&dir, &names)).await?;
    }
    if removed > 0 {
        tracing::info!(removed, "files of content that an earlier server had not finished");
    }
    Ok(())
}

async fn blobs(
    store: &Store,
    files: &OwnFiles,
    dir: PathBuf,
    algorithm: Algorithm,
) -> Result<usize, ContentError> {
    let mut removed = 0;
    let path = dir.clone();
    let mut reading = files.run(move |_| list(&path)).await?;
    loop {
        let path = dir.clone();
        let (rest, names) = files.run(move |_| batch(reading, &path)).await?;
        reading = rest;
        if names.is_empty() {
            return Ok(removed);
        }
        let digest = |name: &String| Digest::parse(&format!("{}:{name}", algorithm.name())).ok();
        // A file that is not named by a digest is not the server's.
        let digests = names.iter().filter_map(digest).collect();
        let unknown = store.unknown_blobs(digests).await?;
        removed += unknown.len();
        let dir = dir.clone();
        files
            .run(move |_| {
                unknown.iter().try_for_each(|digest| layout::remove(&dir.join(digest.hex())))
            })
            .await?;
    }
}

fn list(dir: &Path) -> Result<ReadDir, ContentError> {
    fs::read_dir(dir).map_err(ContentError::io("list", dir))
}

/// The next names of a directory; none at its end.
fn batch(mut reading: ReadDir, dir: &Path) -> Result<(ReadDir, Vec<String>), ContentError> {
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    let names: io::Result<Vec<_>> = reading.by_ref().take(BATCH).map(name).collect();
    Ok((reading, names.map_err(ContentError::io("list", dir))?))
}

fn ingests(dir: &Path, known: &HashSet<Digest>) -> Result<usize, ContentError> {
    let mut removed = 0;
    for entry in list(dir)? {
        let name = entry.map_err(ContentError::io("list", dir))?.file_name();
        let digest = Digest::parse(&format!("sha256:{}", name.to_string_lossy()));
        if digest.is_ok_and(|digest| !known.contains(&digest)) {
            layout::remove(&dir.join(name))?;
            removed += 1;
        }
    }
    Ok(removed)
}
