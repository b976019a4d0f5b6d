//! Opens the journal that an earlier server left, in whatever state it is.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use std::{fmt, fs, io};

use gantry_domain::Timestamp;

use crate::{
    journal::{FILE, Journal},
    record::{Damage, Fault, LAST_TIMESTAMP, Lines, recover},
};

/// How much earlier a file can seem to have been written than it was: file times are those of the
/// last timer tick, and some filesystems have whole seconds only, FAT every other one.
const FILE_TIME_SLACK: u64 = 2_000_000_000;

/// What became of the journal of a former server.
#[derive(Debug)]
pub struct Recovery {
    /// How many events could be read.
    pub events: usize,
    /// What was skipped. It stays in the file until that is compacted, and is reported until then;
    /// a torn last line is cut off with the next event.
    pub damage: Vec<Damage>,
    /// The file, if nothing in it could be read.
    pub(crate) quarantined: Option<Quarantined>,
}

/// A file that was moved out of the way.
#[derive(Debug)]
pub(crate) struct Quarantined {
    /// What it is called now.
    pub path: PathBuf,
    pub reason: Unreadable,
}

/// Why nothing of a journal is of use.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub(crate) enum Unreadable {
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    #[error("it is not a file")]
    NotAFile,
    #[error("no event is left in it")]
    NoEvent,
}

/// The journal can be neither used nor replaced.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JournalError {
    #[error("cannot open the event journal {path}: {cause}", path = path.display())]
    Open { path: PathBuf, cause: io::Error },
    #[error("cannot rename the unreadable event journal {path}: {cause}", path = path.display())]
    Quarantine { path: PathBuf, cause: io::Error },
    #[error("cannot start the thread that writes the event journal in {path}: {cause}", path = path.display())]
    NoThread { path: PathBuf, cause: io::Error },
}

/// A journal to go on with.
pub(crate) struct Recovered {
    pub(crate) journal: Journal,
    pub(crate) lines: Lines,
    /// No event of a former server is later.
    pub(crate) last: Timestamp,
    pub(crate) recovery: Recovery,
}

/// What is in the file.
struct Content {
    lines: Lines,
    /// Where the last whole line ends.
    len: usize,
}

/// Opens the journal in `dir`, to keep its last `kept` events.
pub(crate) fn open(dir: &Path, kept: usize) -> Result<Recovered, JournalError> {
    let path = dir.join(FILE);
    let modified = modified(&path);
    let (content, quarantined) = match read(&path) {
        Ok(content) => (content, None),
        Err(reason) => (Content::of(&[]), Some(quarantine(&path, reason)?)),
    };
    let Content { mut lines, len } = content;
    let damage = std::mem::take(&mut lines.damage);
    let sound = quarantined.is_none() && damage.is_empty();
    let last = last(lines.last(), modified, sound);
    // A torn line is of an event that was never published, and whose cause is still there.
    if quarantined.is_some() || lines.ends_damaged {
        lines.all_gone(last);
    }
    let events = lines.events.len();
    let count = lines.count() + damage.len();
    let mut journal = Journal::open(dir, kept, len as u64, count)
        .map_err(|cause| JournalError::Open { path, cause })?;
    if quarantined.is_some() {
        journal.has_lost(last);
        // The file's time keeps it until an event does.
        let _ = journal.file().set_modified(UNIX_EPOCH + Duration::from_nanos(last.0));
    }
    let recovery = Recovery { events, damage, quarantined };
    Ok(Recovered { journal, lines, last, recovery })
}

fn read(path: &Path) -> Result<Content, Unreadable> {
    let journal = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_file() => fs::read(path).map_err(Unreadable::Io)?,
        Ok(_) => return Err(Unreadable::NotAFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Unreadable::Io(error)),
    };
    let content = Content::of(&journal);
    if content.lines.count() == 0 && !journal.is_empty() {
        return Err(Unreadable::NoEvent);
    }
    Ok(content)
}

impl Content {
    fn of(journal: &[u8]) -> Self {
        let lines = recover(journal);
        let torn = lines.damage.last().filter(|damage| damage.fault == Fault::Torn);
        let len = torn.map_or(journal.len(), |torn| torn.offset);
        Self { lines, len }
    }
}

/// The moment after which the next event is to be, whatever the clock says: that of the last event
/// or of the last write, as there may have been a later event in what is lost.
fn last(last: Timestamp, modified: Timestamp, sound: bool) -> Timestamp {
    let slack = if sound { 0 } else { FILE_TIME_SLACK };
    last.max(Timestamp(modified.0 + slack))
}

/// When the file was last written; the epoch if that is unknown or not a valid time.
fn modified(path: &Path) -> Timestamp {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    modified.map(Timestamp::from).ok().filter(|at| *at < LAST_TIMESTAMP).unwrap_or(Timestamp(0))
}

/// Moves the file to the first free name.
fn quarantine(path: &Path, reason: Unreadable) -> Result<Quarantined, JournalError> {
    let mut number = 1;
    let mut moved = path.with_extension("journal.corrupt-1");
    while fs::symlink_metadata(&moved).is_ok() {
        number += 1;
        moved = path.with_extension(format!("journal.corrupt-{number}"));
    }
    match fs::rename(path, &moved) {
        Ok(()) => Ok(Quarantined { path: moved, reason }),
        Err(cause) => Err(JournalError::Quarantine { path: path.to_owned(), cause }),
    }
}

impl Recovery {
    /// Whether all of it could be read.
    pub fn is_clean(&self) -> bool {
        self.damage.is_empty() && self.quarantined.is_none()
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events read", self.events)?;
        if let Some(Quarantined { path, reason }) = &self.quarantined {
            write!(f, "; the journal is now {}: {reason}", path.display())?;
        }
        if let Some(Damage { offset, length, fault }) = self.damage.first() {
            let count = self.damage.len();
            write!(
                f,
                "; {count} lines skipped, the first at byte {offset} ({length} bytes): {fault}"
            )?;
        }
        Ok(())
    }
}
