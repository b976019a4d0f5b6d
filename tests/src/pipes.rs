//! The named pipes of one process, as a daemon makes and uses them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{OpenOptions, Receiver, Sender},
};

use crate::patiently;

/// Paths of a process's pipes.
#[derive(Debug, Clone)]
pub struct PipePaths {
    /// Read by the process.
    pub stdin: PathBuf,
    /// Written by the process.
    pub stdout: PathBuf,
    /// Written by the process.
    pub stderr: PathBuf,
}

/// The caller's ends of a process's pipes.
#[derive(Debug)]
pub struct Pipes {
    /// Where they are.
    pub paths: PipePaths,
    /// Write end. It is open for reading too, so that opening does not need a reader.
    pub stdin: Option<Sender>,
    /// Read end.
    pub stdout: Option<Receiver>,
    /// Read end.
    pub stderr: Option<Receiver>,
}

impl PipePaths {
    /// Makes the three pipes of a process.
    ///
    /// # Panics
    /// When they cannot be made.
    #[must_use]
    pub fn make(directory: &Path, process: &str) -> Self {
        fs::create_dir_all(directory).expect("make the pipes' directory");
        let path = |stream: &str| {
            let path = directory.join(format!("{process}-{stream}"));
            let _ = fs::remove_file(&path);
            mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("make a pipe");
            path
        };
        Self { stdin: path("stdin"), stdout: path("stdout"), stderr: path("stderr") }
    }

    /// Opens the caller's ends without waiting for the other side, as a daemon does before it
    /// asks for the process.
    ///
    /// # Panics
    /// When they cannot be opened.
    #[must_use]
    pub fn open(self) -> Pipes {
        let mut options = OpenOptions::new();
        let stdout = Some(options.open_receiver(&self.stdout).expect("open stdout"));
        let stderr = Some(options.open_receiver(&self.stderr).expect("open stderr"));
        let stdin = Some(options.read_write(true).open_sender(&self.stdin).expect("open stdin"));
        Pipes { paths: self, stdin, stdout, stderr }
    }
}

impl Pipes {
    /// Everything the process writes to stdout until the end of file.
    pub async fn stdout(&mut self) -> Vec<u8> {
        to_end("stdout", self.stdout.as_mut().expect("stdout is open")).await
    }

    /// [`Self::stdout`] as text.
    pub async fn stdout_text(&mut self) -> String {
        String::from_utf8(self.stdout().await).expect("UTF-8 on stdout")
    }

    /// Everything the process writes to stderr until the end of file.
    pub async fn stderr(&mut self) -> Vec<u8> {
        to_end("stderr", self.stderr.as_mut().expect("stderr is open")).await
    }

    /// Reads stdout until it has shown `text`, and returns all that was read.
    pub async fn stdout_until(&mut self, text: &str) -> String {
        let stdout = self.stdout.as_mut().expect("stdout is open");
        let mut read = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&read).contains(text) {
                let count = stdout.read_buf(&mut read).await.expect("read stdout");
                let so_far = String::from_utf8_lossy(&read);
                assert!(count > 0, "stdout ended before {text:?}: {so_far:?}");
            }
        };
        patiently(&format!("{text:?} on stdout"), reading).await;
        String::from_utf8_lossy(&read).into_owned()
    }

    /// Reads exactly `count` bytes of stdout.
    pub async fn stdout_exactly(&mut self, count: usize) -> Vec<u8> {
        let mut read = vec![0; count];
        let stdout = self.stdout.as_mut().expect("stdout is open");
        patiently("so many bytes on stdout", stdout.read_exact(&mut read)).await.expect("stdout");
        read
    }

    /// Writes all of `bytes` to the process.
    pub async fn write(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        patiently("write to stdin", stdin.write_all(bytes)).await.expect("write to stdin");
    }

    /// Closes all of the caller's ends, as a daemon that dies does.
    pub fn hang_up(&mut self) {
        self.stdin = None;
        self.stdout = None;
        self.stderr = None;
    }

    /// Opens the caller's ends again, as a daemon that was restarted does.
    pub fn reopen(&mut self) {
        *self = self.paths.clone().open();
    }
}

async fn to_end(name: &str, pipe: &mut Receiver) -> Vec<u8> {
    let mut read = Vec::new();
    let reading = pipe.read_to_end(&mut read);
    patiently(&format!("end of {name}"), reading).await.expect("read a pipe");
    read
}
