//! The thread that decompresses an archive and finds its files.

use std::{
    io::{self, Read},
    thread,
};

use gantry_diff::{ArchiveError, Files, Found, Packing};
use tokio::sync::mpsc;

use super::{Incoming, PIECES};
use crate::ImageError;

/// Bytes of a file that are passed on together.
const PIECE: usize = 256 << 10;

/// What an archive consists of, in its order.
pub(super) enum Part {
    /// A file, or a link: data of a file come next, and end with the next part that is none.
    Found(Found),
    Data(Vec<u8>),
    /// The archive has ended, and nothing else comes. What came last is whole only if this part follows.
    End,
    /// The archive cannot be read further, and nothing else comes.
    Failure(ArchiveError),
}

/// Reads an archive on a thread of its own, which ends with the archive, or when nobody wants the parts any more.
pub(super) fn start(
    archive: Incoming,
    packing: Packing,
) -> Result<mpsc::Receiver<Part>, ImageError> {
    let (parts, found) = mpsc::channel(PIECES);
    let archive = Archive { incoming: archive, piece: Vec::new(), at: 0 };
    let thread = thread::Builder::new().name("archive".to_owned());
    let started = thread.spawn(move || {
        let last = match read(archive, packing, &parts) {
            Ok(()) => Part::End,
            Err(error) => Part::Failure(error),
        };
        // Nobody may want it any more.
        let _ = parts.blocking_send(last);
    });
    started.map_err(ImageError::Thread)?;
    Ok(found)
}

fn read(
    archive: Archive,
    packing: Packing,
    parts: &mpsc::Sender<Part>,
) -> Result<(), ArchiveError> {
    let mut files = Files::open(archive, packing)?;
    while let Some(found) = files.next()? {
        let is_file = matches!(found, Found::File { .. });
        send(parts, Part::Found(found))?;
        while is_file && let Some(piece) = piece(&mut files)? {
            send(parts, Part::Data(piece))?;
        }
    }
    Ok(())
}

/// The next bytes of a file; `None` at its end.
fn piece(files: &mut Files<'_>) -> Result<Option<Vec<u8>>, ArchiveError> {
    let mut piece = Vec::new();
    while piece.len() < PIECE {
        let data = files.data()?;
        if data.is_empty() {
            break;
        }
        let length = data.len().min(PIECE - piece.len());
        piece.extend_from_slice(&data[..length]);
        files.consume(length);
    }
    Ok((!piece.is_empty()).then_some(piece))
}

fn send(parts: &mpsc::Sender<Part>, part: Part) -> Result<(), ArchiveError> {
    let gone = |_| ArchiveError::Io(io::Error::other("it is not wanted any more"));
    parts.blocking_send(part).map_err(gone)
}

/// The bytes of an archive.
struct Archive {
    incoming: Incoming,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Archive {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            let Some(next) = self.incoming.0.blocking_recv() else { return Ok(0) };
            (self.piece, self.at) = (next?, 0);
        }
        let length = into.len().min(self.piece.len() - self.at);
        into[..length].copy_from_slice(&self.piece[self.at..][..length]);
        self.at += length;
        Ok(length)
    }
}
