//! A disk of a test's own, which can be frozen as a backup does: whoever writes to it waits for its thaw.

use std::{
    fs::File,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{eventually, skip};

/// Room for some dozen containers, and the least that ext4 has a journal on.
const SIZE: u64 = 64 << 20;

/// An ext4 in a file, mounted.
#[derive(Debug)]
pub struct Disk(TempDir);

/// A frozen disk. Dropping this thaws it, and so does the end of the test's process, however it ends.
#[derive(Debug)]
#[must_use]
pub struct Frozen(Option<Child>);

impl Disk {
    /// Makes and mounts it. `None`, after saying so, when that is not possible here.
    ///
    /// # Panics
    /// When there is no room for the file.
    #[must_use]
    pub fn mount() -> Option<Self> {
        let directory = tempfile::Builder::new().prefix("gantry-disk-").tempdir();
        let disk = Self(directory.expect("a directory for a disk"));
        let image = disk.0.path().join("image");
        File::create(&image).and_then(|file| file.set_len(SIZE)).expect("make a sparse file");
        std::fs::create_dir(disk.path()).expect("make a directory for a mount");
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        let mounted = made.and_then(|()| {
            run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()))
        });
        match mounted {
            Ok(()) => Some(disk),
            Err(why) => {
                skip(&format!("no ext4 in a file: {why}"));
                None
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    /// Freezes it.
    ///
    /// # Panics
    /// When that fails.
    pub fn freeze(&self) -> Frozen {
        // It outlives the test, whose end is the end of its input.
        let mut thaw = Command::new("sh");
        thaw.args(["-c", r#"read _; fsfreeze --unfreeze "$0""#]).arg(self.path());
        thaw.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let frozen = Frozen(Some(thaw.spawn().expect("start a shell")));
        run(Command::new("fsfreeze").arg("--freeze").arg(self.path())).expect("freeze a disk");
        frozen
    }

    /// Ends the test: no process is left that works on the disk, or it would be busy.
    pub async fn finish(self) {
        let unmount = || run(Command::new("umount").arg(self.path())).is_ok();
        eventually("nobody on the disk", unmount).await;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if is_mounted(&self.path()) {
            let _ = run(Command::new("umount").arg("-l").arg(self.path()));
        }
    }
}

impl Frozen {
    /// Thaws it.
    pub fn thaw(self) {}
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(mut thaw) = self.0.take() {
            drop(thaw.stdin.take());
            let _ = thaw.wait();
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    path.to_str().is_some_and(|path| mounts.contains(&format!(" {path} ")))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}
