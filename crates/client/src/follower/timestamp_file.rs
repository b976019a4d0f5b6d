//! The file that holds the time of the last handled event, as RFC 3339.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use gantry_api::Timestamp;
use tokio::sync::watch;

use crate::error::{Error, ErrorKind, Result};

#[derive(Debug, Clone)]
pub(super) struct TimestampFile {
    path: PathBuf,
}

impl TimestampFile {
    pub(super) fn new(path: PathBuf) -> TimestampFile {
        TimestampFile { path }
    }

    /// The time in the file, or this one, which is then the first in it.
    pub(super) fn read_or_begin(&self, now: Timestamp) -> Result<Timestamp> {
        if let Some(time) = self.read()? {
            return Ok(time);
        }
        write(&self.path, now).map_err(|e| Error::io("save event timestamp", &self.path, e))?;
        Ok(now)
    }

    /// `None` if there is no file yet, or a crash has left it empty.
    fn read(&self) -> Result<Option<Timestamp>> {
        let text = match fs::read_to_string(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|e| Error::io("read event timestamp", &self.path, e))?,
        };
        if text.trim().is_empty() {
            return Ok(None);
        }
        text.trim().parse().map(Some).map_err(|_| {
            let source = format!("{text:?} is no timestamp").into();
            let kind = ErrorKind::Spec { path: self.path.clone(), source };
            Error::new("read event timestamp", kind)
        })
    }

    /// Writes every new time, or the latest of several; returns when no more can come.
    pub(super) async fn keep(self, mut times: watch::Receiver<Timestamp>) -> Result<()> {
        while times.changed().await.is_ok() {
            let time = *times.borrow_and_update();
            let path = self.path.clone();
            #[expect(
                clippy::disallowed_methods,
                reason = "the caller's runtime has its own say about threads"
            )]
            let saved = tokio::task::spawn_blocking(move || write(&path, time)).await;
            let saved = saved.unwrap_or_else(|e| Err(io::Error::other(e)));
            saved.map_err(|e| Error::io("save event timestamp", &self.path, e))?;
        }
        Ok(())
    }
}

/// Not synced: after a power loss an older timestamp is only a repeat of some events.
fn write(path: &Path, time: Timestamp) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    fs::write(&temporary, time.to_string())?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_time_is_read_back_to_the_nanosecond() {
        let dir = tempfile::tempdir().unwrap();
        let file = TimestampFile::new(dir.path().join("event.ts"));
        let first = Timestamp { seconds: 5, nanos: 0 };
        assert_eq!(file.read_or_begin(first).unwrap(), first);
        assert_eq!(file.read_or_begin(Timestamp::default()).unwrap(), first);
        let (sender, receiver) = watch::channel(Timestamp::default());
        let keeping = tokio::spawn(file.clone().keep(receiver));
        let time = Timestamp { seconds: 1_493_899_200, nanos: 123_456_789 };
        sender.send_replace(Timestamp { seconds: 1, nanos: 0 });
        sender.send_replace(time);
        drop(sender);
        keeping.await.unwrap().unwrap();
        assert_eq!(file.read().unwrap(), Some(time));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn an_empty_file_counts_as_none_and_a_wrong_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = TimestampFile::new(dir.path().join("event.ts"));
        fs::write(&file.path, "").unwrap();
        assert_eq!(file.read().unwrap(), None);
        fs::write(&file.path, "yesterday").unwrap();
        file.read().unwrap_err();
    }
}
