//! Which named pipes a process has as its standard streams.

use std::{
    fs::{self, Metadata},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileTypeExt, MetadataExt},
    },
    path::Path,
};

/// What the kernel writes after the path of a file that was removed, see proc_pid_fd(5).
const REMOVED: &str = " (deleted)";

/// Whether stdin, stdout and stderr of a process are named pipes of these paths, which may have been removed since, as
/// far as they are given; one must be. Of other files, as /dev/null, any process may have the same. Their file system may
/// not answer.
pub fn has_streams(pid: u32, streams: [Option<&Path>; 3]) -> bool {
    let given = || streams.iter().enumerate().filter_map(|(fd, path)| Some((fd, (*path)?)));
    given().next().is_some() && given().all(|(fd, path)| is_open(pid, fd, path))
}

fn is_open(pid: u32, fd: usize, path: &Path) -> bool {
    let link = format!("/proc/{pid}/fd/{fd}");
    let (Ok(target), Ok(open)) = (fs::read_link(&link), fs::metadata(&link)) else { return false };
    if !open.file_type().is_fifo() {
        return false;
    }
    let target = target.as_os_str().as_bytes();
    if target.strip_suffix(REMOVED.as_bytes()).unwrap_or(target) == path.as_os_str().as_bytes() {
        return true;
    }
    // The path may lead through links. The pipe is not opened by this.
    fs::metadata(path).is_ok_and(|file| identity(&open) == identity(&file))
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

#[cfg(test)]
mod tests {
    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn every_stream_that_is_given_must_be_the_process_own() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
        let open = |path: &Path| {
            mkfifo(path, Mode::S_IRWXU).unwrap();
            // Both ends, so that nobody is waited for.
            fs::File::options().read(true).write(true).open(path).unwrap()
        };
        #[allow(clippy::disallowed_methods, reason = "tests start processes of their own")]
        let mut command = std::process::Command::new("sleep");
        command.arg("100").stdin(std::process::Stdio::null()).stdout(open(&first));
        let mut child = command.stderr(open(&second)).spawn().unwrap();
        let (first, second) = (Some(&*first), Some(&*second));
        let has = |streams| has_streams(child.id(), streams);
        fs::remove_file(first.unwrap()).unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(second.unwrap(), &link).unwrap();
        let found = [
            has([None, first, second]),
            has([None, first, Some(&link)]),
            has([None, None, second]),
            has([None, second, first]),
            has([first, first, second]),
            has([Some("/dev/null".as_ref()), first, second]),
            has([None, Some("/nowhere".as_ref()), second]),
            has([None; 3]),
        ];
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, [true, true, true, false, false, false, false, false]);
        assert!(!has_streams(child.id(), [None, first, second]), "it has ended");
    }
}
