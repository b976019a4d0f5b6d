//! Named pipes of a task, as containerd's clients make them.
//!
//! A reader that opens a pipe before its writer would see the end at once, and a writer cannot open one without a reader:
//! until the server has opened its ends, a descriptor for both directions keeps each pipe open (fifo(7)).

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use tokio::net::unix::pipe;

use crate::failure::Failure;

/// Where the streams of a process are; empty for /dev/null.
#[derive(Debug, Clone, Default)]
pub(crate) struct Paths {
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Which streams of a process are pipes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// This side's ends.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdin: Option<pipe::Sender>,
    pub(crate) stdout: Option<pipe::Receiver>,
    pub(crate) stderr: Option<pipe::Receiver>,
}

/// Keeps pipes open until the server has opened them.
#[derive(Debug, Default)]
pub(crate) struct Keepers(Vec<File>);

/// Makes the pipes of a first process, in place of those of an earlier one.
pub(crate) fn make(dir: &Path, wanted: Wanted) -> Result<(Paths, Keepers), Failure> {
    let (mut paths, mut keepers) = (Paths::default(), Keepers::default());
    for (is_wanted, name, text) in [
        (wanted.stdin, "init-stdin", &mut paths.stdin),
        (wanted.stdout, "init-stdout", &mut paths.stdout),
        (wanted.stderr, "init-stderr", &mut paths.stderr),
    ] {
        if !is_wanted {
            continue;
        }
        let path = dir.join(name);
        keepers.0.push(make_one(&path).map_err(|e| Failure::io(path.display(), &e))?);
        let printed = path
            .to_str()
            .ok_or_else(|| Failure::new(format!("{} is not UTF-8", path.display())))?;
        printed.clone_into(text);
    }
    Ok((paths, keepers))
}

/// Opens the ends of this side. Output that nobody writes any more, and input that nobody reads, is none.
pub(crate) fn open(paths: &Paths) -> Result<Ends, Failure> {
    let failed = |path: &str, e: io::Error| Failure::io(path, &e);
    let reader = |path: &str| match path.is_empty() {
        true => Ok(None),
        false => {
            pipe::OpenOptions::new().open_receiver(path).map(Some).map_err(|e| failed(path, e))
        }
    };
    let stdin = match paths.stdin.as_str() {
        "" => None,
        path => match pipe::OpenOptions::new().open_sender(path) {
            Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => None,
            opened => Some(opened.map_err(|e| failed(path, e))?),
        },
    };
    Ok(Ends { stdin, stdout: reader(&paths.stdout)?, stderr: reader(&paths.stderr)? })
}

fn make_one(path: &PathBuf) -> io::Result<File> {
    let is_pipe = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_fifo());
    if is_pipe {
        fs::remove_file(path)?;
    }
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR)?;
    let flags = (OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    File::options().read(true).write(true).custom_flags(flags).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn pipes_are_made_where_they_are_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = Wanted { stdin: false, stdout: true, stderr: false };
        for _ in 0..2 {
            let (paths, keepers) = make(dir.path(), wanted).unwrap();
            assert!(paths.stdin.is_empty() && paths.stderr.is_empty());
            let mut ends = open(&paths).unwrap();
            let mut writer = pipe::OpenOptions::new().open_sender(&paths.stdout).unwrap();
            drop(keepers);
            writer.write_all(b"written").await.unwrap();
            drop(writer);
            let mut read = Vec::new();
            ends.stdout.take().unwrap().read_to_end(&mut read).await.unwrap();
            assert_eq!(read, b"written");
        }
        fs::remove_file(dir.path().join("init-stdout")).unwrap();
        fs::write(dir.path().join("init-stdout"), "precious").unwrap();
        make(dir.path(), wanted).unwrap_err();
    }
}
