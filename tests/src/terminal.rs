//! A terminal of the host with a program in it, as a person has it.

use std::{
    fs::File,
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{patiently, processes};

/// A program and the terminal in front of which it sits.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// None once the terminal was closed.
    open: Option<Open>,
    /// What was read and not yet asked for.
    pending: Vec<u8>,
}

/// The side of the terminal that a person sees.
#[derive(Debug)]
struct Open {
    master: OwnedFd,
    screen: tokio::fs::File,
}

impl Terminal {
    /// Starts a program in a new terminal of this size, which is its controlling one.
    ///
    /// # Panics
    /// When that is not possible.
    #[must_use]
    pub fn run(program: &Command, width: u16, height: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("make a terminal");
        grantpt(&master).expect("grant the terminal");
        unlockpt(&master).expect("unlock the terminal");
        tcsetwinsize(&master, size(width, height)).expect("size the terminal");
        let name = ptsname(&master, Vec::new()).expect("name the terminal");
        let slave = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        let slave = File::from(slave.expect("open the terminal"));
        let mut session = Command::new("setsid");
        session.args(["--ctty", "--wait"]).arg(program.get_program()).args(program.get_args());
        let stdio = || slave.try_clone().expect("duplicate the terminal");
        session.stdin(stdio()).stdout(stdio()).stderr(slave.try_clone().expect("duplicate"));
        let child = session.spawn().expect("start setsid");
        let screen = File::from(master.try_clone().expect("duplicate the terminal"));
        let open = Open { master, screen: tokio::fs::File::from_std(screen) };
        Self { child, open: Some(open), pending: Vec::new() }
    }

    /// Types on the keyboard.
    pub async fn type_in(&mut self, keys: &str) {
        let screen = &mut self.open().screen;
        screen.write_all(keys.as_bytes()).await.expect("type");
        screen.flush().await.expect("type");
    }

    /// Reads the screen until it has shown `text`, and returns all up to its end.
    pub async fn until(&mut self, text: &str) -> String {
        let reading = async {
            loop {
                let seen = String::from_utf8_lossy(&self.pending).into_owned();
                if let Some(at) = seen.find(text) {
                    let (shown, rest) = seen.split_at(at + text.len());
                    self.pending = rest.as_bytes().to_vec();
                    return shown.to_owned();
                }
                let open = self.open.as_mut().expect("a terminal that is open");
                let read = open.screen.read_buf(&mut self.pending).await;
                assert!(
                    read.is_ok_and(|count| count > 0),
                    "the end comes before {text:?}: {seen:?}"
                );
            }
        };
        patiently(&format!("{text:?} on the screen"), reading).await
    }

    /// Makes the window larger or smaller.
    ///
    /// # Panics
    /// When it is no terminal any more.
    pub fn resize(&mut self, width: u16, height: u16) {
        tcsetwinsize(&self.open().master, size(width, height)).expect("resize the terminal");
    }

    /// Closes the window: the program's terminal is gone.
    pub fn hang_up(&mut self) {
        self.open = None;
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("a terminal that is open")
    }

    /// Waits for the program's end.
    pub async fn end(&mut self) -> ExitStatus {
        assert!(processes::ends_within(self.child.id(), crate::PATIENCE).await, "it does not end");
        self.child.wait().expect("wait for the program")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(width: u16, height: u16) -> Winsize {
    Winsize { ws_col: width, ws_row: height, ws_xpixel: 0, ws_ypixel: 0 }
}
