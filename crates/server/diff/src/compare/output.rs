//! What becomes of the archive: another thread than that which reads files computes the digest and compresses.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use sha2::{Digest, Sha256};

use crate::{Compression, DiffError, Unpacked, compression::Encoder};

/// Buffers, and bytes of each.
const BUFFERS: usize = 8;
const BUFFER: usize = 256 << 10;

/// Has `write` write an archive, which is compressed to the output.
pub(super) fn run<W: Write + Send>(
    output: W,
    compression: Compression,
    write: impl FnOnce(&mut Outgoing) -> Result<(), DiffError>,
) -> Result<Unpacked, DiffError> {
    let (free, to_fill) = sync_channel(BUFFERS);
    let (full, to_compress) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // There is room for all of them.
        let _ = free.send(Vec::with_capacity(BUFFER));
    }
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("layer-write".to_owned());
        let compressor =
            thread.spawn_scoped(scope, move || compress(output, compression, &to_compress, &free));
        let compressor = compressor.map_err(DiffError::Thread)?;
        let mut archive = Outgoing { to_fill, full, buffer: Vec::with_capacity(BUFFER) };
        let result = write(&mut archive).and_then(|()| archive.end().map_err(DiffError::Output));
        if result.is_ok() {
            let _ = archive.full.send(None);
        }
        drop(archive);
        let compressed = compressor.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (result, compressed) {
            // The other thread has ended because of this one.
            (Err(error), Ok(None)) => Err(error),
            (_, Err(error)) => Err(DiffError::Output(error)),
            (result, Ok(made)) => result.and(made.ok_or(DiffError::Cancelled)),
        }
    })
}

/// Returns nothing if the archive was given up.
fn compress<W: Write>(
    output: W,
    compression: Compression,
    to_compress: &Receiver<Option<Vec<u8>>>,
    free: &SyncSender<Vec<u8>>,
) -> io::Result<Option<Unpacked>> {
    let mut encoder = Encoder::new(compression, output)?;
    let (mut hasher, mut size) = (Sha256::new(), 0);
    while let Ok(piece) = to_compress.recv() {
        let Some(mut buffer) = piece else {
            encoder.finish()?;
            return Ok(Some(Unpacked { sha256: hasher.finalize().into(), size }));
        };
        hasher.update(&buffer);
        size += buffer.len() as u64;
        encoder.write_all(&buffer)?;
        buffer.clear();
        // Nobody may want more buffers.
        let _ = free.send(buffer);
    }
    Ok(None)
}

/// The archive that is written.
pub(super) struct Outgoing {
    to_fill: Receiver<Vec<u8>>,
    full: SyncSender<Option<Vec<u8>>>,
    buffer: Vec<u8>,
}

impl Outgoing {
    /// Room for more bytes; not empty.
    pub(super) fn room(&mut self) -> io::Result<&mut Vec<u8>> {
        if self.buffer.len() == BUFFER {
            self.end()?;
        }
        Ok(&mut self.buffer)
    }

    pub(super) fn write(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let buffer = self.room()?;
            let (part, rest) = data.split_at(data.len().min(BUFFER - buffer.len()));
            buffer.extend_from_slice(part);
            data = rest;
        }
        Ok(())
    }

    /// How many bytes go into the buffer before it is full.
    pub(super) fn free(&self) -> usize {
        BUFFER - self.buffer.len()
    }

    fn end(&mut self) -> io::Result<()> {
        let gone = || io::Error::other("the layer is not compressed any more");
        let next = self.to_fill.recv().map_err(|_| gone())?;
        let full = std::mem::replace(&mut self.buffer, next);
        self.full.send(Some(full)).map_err(|_| gone())
    }
}
