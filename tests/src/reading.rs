//! A program of which the output is read while it runs.

use std::process::Child;

use tokio::{io::AsyncReadExt, process::ChildStdout};

use crate::{PATIENCE, patiently, processes};

/// A program of which the output is read while it runs.
#[derive(Debug)]
pub struct Reading {
    child: Child,
    output: ChildStdout,
    read: Vec<u8>,
}

impl Reading {
    /// The program's stdout is a pipe.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn of(mut child: Child) -> Self {
        let output = child.stdout.take().expect("a pipe as its stdout");
        let output = ChildStdout::from_std(output).expect("a pipe");
        Self { child, output, read: Vec::new() }
    }

    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads until all that was read holds `text`.
    pub async fn until(&mut self, text: &str) {
        let reading = async {
            while !self.has_read(text) {
                assert!(
                    self.output.read_buf(&mut self.read).await.expect("read") > 0,
                    "no {text:?}"
                );
            }
        };
        patiently(text, reading).await;
    }

    /// Whether `text` is in what was read so far.
    #[must_use]
    pub fn has_read(&self, text: &str) -> bool {
        String::from_utf8_lossy(&self.read).contains(text)
    }

    /// Waits for its end; the exit code, unless a signal has killed it.
    pub async fn end(&mut self) -> Option<i32> {
        assert!(processes::ends_within(self.pid(), PATIENCE).await, "it does not end");
        self.child.wait().expect("wait for the program").code()
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
