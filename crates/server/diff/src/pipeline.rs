//! The threads that a layer passes while it is unpacked: one reads, one decompresses, the caller's unpacks, one
//! computes the digest. A few buffers go round between the first two, and between the others.

use std::{
    io::{self, BufRead, Read},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, ScopedJoinHandle},
};

use sha2::{Digest, Sha256};

use crate::{Cancel, DiffError, compression::Packing};

/// Buffers with what is compressed and with what is not, and bytes of each.
const PACKED: usize = 4;
const BUFFERS: usize = 8;
const BUFFER: usize = 256 << 10;

/// A tar archive, as a layer's diff id names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
    /// Their count.
    pub size: u64,
}

/// Has `unpack` read the layer without compression, to its end.
pub(crate) fn run<R: Read + Send>(
    layer: R,
    packing: Packing,
    limit: Option<u64>,
    cancel: &Cancel,
    unpack: impl FnOnce(&mut Incoming) -> Result<(), DiffError>,
) -> Result<Unpacked, DiffError> {
    let (used, to_read) = buffers(PACKED);
    let (read, to_decompress) = sync_channel(PACKED);
    let (free, to_fill) = buffers(BUFFERS);
    let (full, to_unpack) = sync_channel(BUFFERS);
    let (unpacked, to_hash) = sync_channel(BUFFERS);
    thread::scope(|scope| {
        let reader = named("layer-read").spawn_scoped(scope, move || {
            if let Err(error) = pass_on(layer, None, cancel, &to_read, &read) {
                let _ = read.send(Err(error));
            }
        });
        let reader = reader.map_err(DiffError::Thread)?;
        let decompressor = named("layer-unzip").spawn_scoped(scope, move || {
            let mut packed = Incoming::new(to_decompress, used);
            let done = packing
                .open(&mut packed)
                .map_err(DiffError::Layer)
                .and_then(|input| pass_on(input, limit, cancel, &to_fill, &full));
            // What a decoder says of it is less.
            if let Some(error) = packed.failure.or(done.err()) {
                let _ = full.send(Err(error));
            }
        });
        let decompressor = decompressor.map_err(DiffError::Thread)?;
        let hasher = named("layer-hash").spawn_scoped(scope, move || hash(&to_hash, &free));
        let hasher = hasher.map_err(DiffError::Thread)?;
        let mut incoming = Incoming::new(to_unpack, unpacked);
        let result = unpack(&mut incoming);
        let failure = incoming.failure.take();
        // Ends all threads.
        drop(incoming);
        joined(reader);
        joined(decompressor);
        let digest = joined(hasher);
        match failure {
            // What the reader of the archive says of it is less.
            Some(failure) => Err(failure),
            None => result.map(|()| digest),
        }
    })
}

/// A channel with so many buffers in it, which has room for all of them.
fn buffers(count: usize) -> (SyncSender<Vec<u8>>, Receiver<Vec<u8>>) {
    let (free, to_fill) = sync_channel(count);
    for _ in 0..count {
        let _ = free.send(Vec::with_capacity(BUFFER));
    }
    (free, to_fill)
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Reads all there is, at most `limit` bytes, into buffers.
fn pass_on<R: Read>(
    mut input: R,
    limit: Option<u64>,
    cancel: &Cancel,
    to_fill: &Receiver<Vec<u8>>,
    full: &SyncSender<Result<Vec<u8>, DiffError>>,
) -> Result<(), DiffError> {
    let mut left = limit.unwrap_or(u64::MAX);
    while let Ok(mut buffer) = to_fill.recv() {
        cancel.check()?;
        buffer.resize(BUFFER, 0);
        let mut length = 0;
        while length < BUFFER {
            match input.read(&mut buffer[length..]) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DiffError::Layer(error)),
            }
        }
        buffer.truncate(length);
        if length == 0 {
            break;
        }
        left = left
            .checked_sub(length as u64)
            .ok_or_else(|| DiffError::ArchiveTooLarge(limit.unwrap_or_default()))?;
        if full.send(Ok(buffer)).is_err() {
            break;
        }
    }
    Ok(())
}

fn hash(to_hash: &Receiver<Vec<u8>>, free: &SyncSender<Vec<u8>>) -> Unpacked {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    while let Ok(buffer) = to_hash.recv() {
        hasher.update(&buffer);
        size += buffer.len() as u64;
        // Nobody may want more buffers.
        let _ = free.send(buffer);
    }
    Unpacked { sha256: hasher.finalize().into(), size }
}

/// Bytes that come from another thread in buffers, and buffers that go on when they are read.
pub(crate) struct Incoming {
    coming: Receiver<Result<Vec<u8>, DiffError>>,
    read: SyncSender<Vec<u8>>,
    buffer: Vec<u8>,
    at: usize,
    /// Why there are no more.
    failure: Option<DiffError>,
}

impl Incoming {
    fn new(coming: Receiver<Result<Vec<u8>, DiffError>>, read: SyncSender<Vec<u8>>) -> Self {
        Self { coming, read, buffer: Vec::new(), at: 0, failure: None }
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.buffer.len() {
            let read = std::mem::take(&mut self.buffer);
            self.at = 0;
            if !read.is_empty() {
                // Whoever computes the digest ends after this; who has read all may have ended before.
                let _ = self.read.send(read);
            }
            match self.coming.recv() {
                Ok(Ok(buffer)) => self.buffer = buffer,
                Ok(Err(error)) => {
                    self.failure = Some(error);
                    return Err(io::Error::other("the layer cannot be read"));
                }
                // The end.
                Err(_) => {}
            }
        }
        Ok(&self.buffer[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Incoming {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let length = there.len().min(into.len());
        into[..length].copy_from_slice(&there[..length]);
        self.consume(length);
        Ok(length)
    }
}
