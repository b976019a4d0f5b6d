//! Layers of a Docker archive are compressed.

use std::{
    io::{self, Read, Write},
    thread,
};

use flate2::{Compression, write::GzEncoder};
use gantry_content::{BlockingReader, ContentError, Writer};
use gantry_store::{Digest, Labels};
use tokio::sync::mpsc;

use super::{Import, PIECES, files::new_reference};
use crate::{Descriptor, ImageError, label, media_type};

/// Bytes that are read, and written, at a time.
const PIECE: usize = 256 << 10;

impl Import {
    /// Writes a layer once more, with gzip as `docker push` would.
    pub(super) async fn compress(&self, layer: &Digest) -> Result<Descriptor, ImageError> {
        let reader = self.content.read_blocking(&self.namespace, layer).await?;
        let (reference, lease) = (new_reference(), Some(self.lease.clone()));
        let writer =
            self.content.writer(&self.namespace, reference.clone(), 0, None, lease).await?;
        let written = match self.copied(reader, writer).await {
            Ok(writer) => {
                let size = writer.offset();
                let label = (label::UNCOMPRESSED.to_owned(), layer.to_string());
                match writer.commit(size, None, Labels::from([label])).await {
                    Ok(digest) | Err(ContentError::Exists(digest)) => Ok((digest, size)),
                    Err(error) => Err(error.into()),
                }
            }
            Err(error) => Err(error),
        };
        match written {
            Ok((digest, size)) => Ok(Descriptor::new(media_type::DOCKER_LAYER_GZIP, digest, size)),
            Err(error) => {
                self.give_up(&reference).await;
                Err(error)
            }
        }
    }

    /// Compresses on a thread of its own, and writes what comes of it.
    async fn copied(
        &self,
        reader: BlockingReader,
        mut writer: Writer,
    ) -> Result<Writer, ImageError> {
        let (pieces, mut incoming) = mpsc::channel(PIECES);
        let thread = thread::Builder::new().name("compress".to_owned());
        let started = thread.spawn(move || {
            if let Err(error) = compress(reader, Pieces(pieces.clone())) {
                // Nobody may want it any more.
                let _ = pieces.blocking_send(Err(error));
            }
        });
        started.map_err(ImageError::Thread)?;
        while let Some(piece) = incoming.recv().await {
            self.unless_stopped()?;
            let piece = piece.map_err(|error| {
                ImageError::Archive(format!("has a layer that cannot be compressed: {error}"))
            })?;
            writer.write(piece).await?;
        }
        Ok(writer)
    }
}

fn compress(mut layer: BlockingReader, output: Pieces) -> io::Result<()> {
    let mut encoder = GzEncoder::new(output, Compression::new(6));
    let mut buffer = vec![0; PIECE];
    loop {
        match layer.read(&mut buffer)? {
            0 => return encoder.finish().map(drop),
            length => encoder.write_all(&buffer[..length])?,
        }
    }
}

/// What is written by a thread, and received by a task.
struct Pieces(mpsc::Sender<io::Result<Vec<u8>>>);

impl Write for Pieces {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(data.to_vec()));
        sent.map_err(|_| io::Error::other("it is not written any more"))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        sync::{Arc, atomic::AtomicBool},
    };

    use gantry_content::Content;
    use gantry_domain::{Kind, Namespace};
    use gantry_store::{Store, filter::Filters};

    use super::*;

    /// An import without an archive, and the digest of a layer of its namespace.
    async fn with_layer(directory: &Path, stop: bool) -> (Import, Digest) {
        let namespace = Namespace::named("ns").unwrap();
        let store = Store::open(directory).unwrap().0;
        let lease = store.create_lease(&namespace, "", Labels::new()).await.unwrap().id;
        let content = Content::open(directory, store, 1).await.unwrap();
        let stop = Arc::new(AtomicBool::new(stop));
        let import = Import { content, namespace, lease, force_compress: true, stop };
        let layer = import.write_document("layer", vec![7; 1 << 20]).await.unwrap();
        (import, layer.digest)
    }

    #[tokio::test]
    async fn a_layer_is_compressed_unless_nobody_wants_it_any_more() {
        let directory = tempfile::tempdir().unwrap();
        let (import, layer) = with_layer(directory.path(), false).await;
        let compressed = import.compress(&layer).await.unwrap();
        assert_eq!(compressed.media_type, media_type::DOCKER_LAYER_GZIP);
        assert!(compressed.size < 64 << 10, "{}", compressed.size);

        let directory = tempfile::tempdir().unwrap();
        let (import, layer) = with_layer(directory.path(), true).await;
        let error = import.compress(&layer).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Cancelled, "{error}");
        // No write is left, and no blob was made.
        let (store, all) = (import.content.store(), Filters::default());
        let blobs = store.blob_page(&import.namespace, &all, None).await.unwrap().blobs;
        assert_eq!(blobs.iter().map(|blob| &blob.digest).collect::<Vec<_>>(), [&layer]);
        let writes = import.content.statuses(&import.namespace, &all, None).await.unwrap();
        assert!(writes.statuses.is_empty());
    }
}
