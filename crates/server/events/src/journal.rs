//! The journal file, `events.journal`: the only place that writes event records.
//!
//! A record is one write(2) of a whole line, appended, without fsync. So it survives the death of
//! this process and of any other, at any instant, but not always a power cut. That is enough: no
//! container survives a power cut either, and what it leaves behind is found when the state
//! directory is read; recovery copes with whatever has become of the file. Only its replacement,
//! when it has become long, is synced.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gantry_domain::{Event, Timestamp};
use gantry_failpoints::{Point, reach};
use nix::sys::statfs::{TMPFS_MAGIC, fstatfs};

use crate::{
    published::Published,
    record::{DeliveredRange, Marks, encode, encode_delivered, encode_published},
    reserve::Reserve,
    ring::BACKLOG,
};

pub(crate) const FILE: &str = "events.journal";

/// Becomes the journal when it is complete.
const NEW_FILE: &str = "events.journal.new";

/// How much longer the file becomes at most, in bytes, before it is compacted: so much may be of published
/// events, which can be long and of which none stays.
const GROWTH: u64 = 8 << 20;

/// How many lines go by between two attempts to get the reserve back.
const RESTORE_EVERY: usize = 64;

pub(crate) struct Journal {
    dir: PathBuf,
    file: File,
    /// The directory could not be written when the file was opened.
    read_only: bool,
    /// Where the last whole line ends.
    len: u64,
    /// Whether there may be a part of a line after that.
    torn: bool,
    lines: usize,
    /// More lines than this are too many.
    limit: usize,
    /// More bytes than this are, too.
    len_limit: u64,
    kept: usize,
    /// The range that was written last.
    delivered_range: Option<DeliveredRange>,
    /// See [`Self::has_lost`].
    lost: Option<Timestamp>,
    /// Lines that could not be written yet, no more than there are events in memory.
    pending: VecDeque<Vec<u8>>,
    /// Whether the last write failed: that is logged once, not for every event.
    failing: bool,
    reserve: Reserve,
}

impl Journal {
    /// Goes on with a journal whose `len` bytes are `lines` whole lines, and perhaps a torn one,
    /// or begins one. The last `kept` events stay in it for good.
    pub(crate) fn open(dir: &Path, kept: usize, len: u64, lines: usize) -> io::Result<Self> {
        let (file, read_only) = match open_to_append(dir) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                tracing::error!(dir = %dir.display(), %error, "events cannot be journalled");
                (File::open(dir)?, true)
            }
            other => (other?, false),
        };
        Ok(Self {
            dir: dir.to_owned(),
            file,
            read_only,
            len,
            torn: true,
            lines,
            limit: kept.saturating_mul(2),
            len_limit: len + GROWTH,
            kept,
            delivered_range: None,
            lost: None,
            pending: VecDeque::new(),
            failing: false,
            reserve: Reserve::new(dir),
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Events up to this moment are in another file, which cannot be read. The next event says so.
    pub(crate) fn has_lost(&mut self, until: Timestamp) {
        self.lost = Some(until);
    }

    /// Writes the event after those that are pending, or adds it to them. Whether none is pending then.
    pub(crate) fn append(
        &mut self,
        event: &Event,
        delivered_range: Option<DeliveredRange>,
    ) -> bool {
        let news = delivered_range.filter(|_| delivered_range != self.delivered_range);
        // Dropped events are in the file until it is compacted.
        let marks = Marks { delivered_range: news, lost: self.lost, ..Marks::default() };
        let written = self.queue(encode(event, marks));
        if written.is_some() {
            self.delivered_range = delivered_range;
            self.lost = None;
        }
        written.unwrap_or(false)
    }

    /// Notes that these events, of named namespaces, were delivered.
    pub(crate) fn note(&mut self, delivered: &[Timestamp]) {
        self.queue(encode_delivered(delivered));
    }

    /// Writes a published event, if there is room. It does not wait for room: nobody needs it later.
    pub(crate) fn publish(&mut self, published: &Published) {
        if !self.flush() {
            return;
        }
        let written = encode_published(published).and_then(|line| {
            self.write_whole(&line)?;
            self.wrote(&line);
            Ok(())
        });
        if let Err(error) = written {
            self.failed(&error);
        }
    }

    /// Writes a line after those that are pending, or adds it to them. Whether none is pending then; `None` if there
    /// is no line.
    fn queue(&mut self, line: io::Result<Vec<u8>>) -> Option<bool> {
        match line {
            Ok(line) => {
                self.pending.push_back(line);
                Some(self.flush())
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    /// Writes what is pending. Whether nothing is pending then.
    pub(crate) fn flush(&mut self) -> bool {
        match self.write_pending() {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!(dir = %self.dir.display(), "events are journalled again");
            }
            Ok(()) => {}
            Err(error) => self.failed(&error),
        }
        self.pending.is_empty()
    }

    fn failed(&mut self, error: &io::Error) {
        if !self.failing {
            self.failing = true;
            tracing::error!(
                dir = %self.dir.display(),
                %error,
                "cannot journal events: they are delivered, and journalled when this is over",
            );
        }
        if self.pending.len() > self.kept + BACKLOG {
            self.pending.pop_front();
        }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        while let Some(line) = self.pending.pop_front() {
            if let Err(error) = self.write(&line) {
                self.pending.push_front(line);
                return Err(error);
            }
        }
        Ok(())
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match self.write_whole(line) {
            Err(error) if is_full(&error) && self.reserve.release() => self.write_whole(line)?,
            result => result?,
        }
        self.wrote(line);
        Ok(())
    }

    fn wrote(&mut self, line: &[u8]) {
        self.len += line.len() as u64;
        self.lines += 1;
        if self.lines.is_multiple_of(RESTORE_EVERY) {
            self.reserve.restore();
        }
    }

    /// Appends all of the line, or none of it.
    fn write_whole(&mut self, line: &[u8]) -> io::Result<()> {
        if self.read_only {
            self.file = open_to_append(&self.dir)?;
            self.read_only = false;
        }
        if self.torn {
            self.file.set_len(self.len)?;
        }
        let result = self.file.write_all(line);
        self.torn = result.is_err() && self.file.set_len(self.len).is_err();
        result
    }

    /// Bytes of the file, its lines, and lines that could not be written yet.
    pub(crate) fn size(&self) -> [u64; 3] {
        [self.len, self.lines as u64, self.pending.len() as u64]
    }

    /// Whether the journal is to be [compacted](Journal::compact).
    pub(crate) fn is_long(&self) -> bool {
        (self.lines > self.limit || self.len > self.len_limit) && self.pending.is_empty()
    }

    /// Replaces the journal by one of these events, which are all that is needed of it. That takes a millisecond
    /// in memory, as long as a sync takes on a disk, and comes once in `kept` events or more. Whether it succeeded.
    pub(crate) fn compact(&mut self, events: &[(Arc<Event>, Marks)]) -> bool {
        let written = write_new(&self.dir, events);
        let is_written = written.is_ok();
        match written {
            Ok((file, len)) => {
                self.file = file;
                self.len = len;
                self.torn = false;
                self.lines = events.len();
                self.limit = events.len().max(self.kept).saturating_mul(2);
            }
            Err(error) => {
                let _ = fs::remove_file(self.dir.join(NEW_FILE));
                self.limit = self.lines.saturating_add(self.kept);
                tracing::warn!(dir = %self.dir.display(), %error, "cannot compact the event journal");
            }
        }
        self.len_limit = self.len + GROWTH;
        is_written
    }
}

fn open_to_append(dir: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(dir.join(FILE))
}

/// Writes a journal beside the present one and puts it in its place.
fn write_new(dir: &Path, events: &[(Arc<Event>, Marks)]) -> io::Result<(File, u64)> {
    let path = dir.join(NEW_FILE);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
    let mut lines = Vec::new();
    for (event, marks) in events {
        lines.append(&mut encode(event, *marks)?);
    }
    file.write_all(&lines)?;
    let directory = File::open(dir)?;
    let sync = needs_sync(&directory);
    if sync {
        // Or a power cut could leave an empty file where there was a good one.
        file.sync_all()?;
    }
    reach(Point::ServerJournalRewritten);
    fs::rename(&path, dir.join(FILE))?;
    reach(Point::ServerJournalReplaced);
    if sync {
        // Too late to fail: the new file is the journal, whether its name is on the disk or not.
        let _ = directory.sync_all();
    }
    Ok((file, lines.len() as u64))
}

/// Whether what is in the directory can outlive a power cut.
fn needs_sync(directory: &File) -> bool {
    fstatfs(directory).map_or(true, |fs| fs.filesystem_type() != TMPFS_MAGIC)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
