//! The process's standard streams, as far as the shim handles them.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use gantry_shim_proto::{Launch, LaunchError};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::console::Terminal;
use crate::input::Input;
use crate::launch::system;
use crate::linger::Lingering;
use crate::logger::Logger;
use crate::poll::{EventFlags, Poller, Source};
use crate::pump::{Pump, Step};
use crate::stdio::{self, OutputPipe, Outputs, open_input};

/// More than a terminal holds after an exit (the kernel's drivers/tty/pty.c and n_tty.c: 8192 and
/// 4096 bytes): what comes after that is from other processes with the terminal.
const TERMINAL_REST: usize = 64 * 1024;

/// Pieces of a terminal's output that are carried at once.
const STEPS: usize = 16;

/// How far the terminal's output has come.
pub(crate) enum Drained {
    /// All of it is in the caller's pipe.
    All,
    /// The pipe is full.
    Blocked,
}

/// What a process is to be started with.
pub(crate) struct Opened {
    /// Its standard streams; with a terminal none, as the runtime makes it.
    pub(crate) fds: Option<[OwnedFd; 3]>,
    /// The program that reads the output, if one does.
    pub(crate) logger: Option<Logger>,
}

/// The streams, in whatever state.
pub(crate) struct Streams {
    poller: Poller,
    /// The terminal's ends, until the terminal is there.
    ends: Option<(Option<stdio::Input>, OwnedFd)>,
    terminal: Option<Terminal>,
    size: Option<(u16, u16)>,
    input: Option<Input>,
    input_closed: bool,
    output: Option<Pump>,
    drained: usize,
    pipes: Vec<OutputPipe>,
    lingering: Option<Lingering>,
}

impl Streams {
    pub(crate) fn new(poller: &Poller) -> Self {
        Self {
            poller: poller.clone(),
            ends: None,
            terminal: None,
            size: None,
            input: None,
            input_closed: false,
            output: None,
            drained: 0,
            pipes: Vec::new(),
            lingering: None,
        }
    }

    /// Opens what the caller has named.
    pub(crate) fn open(&mut self, launch: &Launch) -> Result<Opened, LaunchError> {
        if launch.terminal {
            let stdin = match launch.stdin.as_str() {
                "" => None,
                path => Some(open_input(path)?),
            };
            let outputs = Outputs::open(&self.poller, launch)?;
            self.pipes = outputs.pipes;
            self.ends = Some((stdin, outputs.stdout));
            if launch.width != 0 && launch.height != 0 {
                self.size = Some((launch.width, launch.height));
            }
            return Ok(Opened { fds: None, logger: outputs.logger });
        }
        let stdin = match open_input(&launch.stdin)? {
            stdio::Input::File(file) => file,
            stdio::Input::Pipe(pipe) => self.feed(pipe).map_err(system("make the stdin pipe"))?,
        };
        let Outputs { stdout, stderr, pipes, logger } = Outputs::open(&self.poller, launch)?;
        self.pipes = pipes;
        let fds = [stdin, stdout, stderr];
        if (launch.io_uid, launch.io_gid) != (0, 0) {
            for pipe in &fds {
                stdio::give_pipe(pipe, launch.io_uid, launch.io_gid)
                    .map_err(system("give the stdio pipes to io_uid and io_gid"))?;
            }
        }
        Ok(Opened { fds: Some(fds), logger })
    }

    /// The process reads from a pipe of its own, which ends when the caller says so and not
    /// when the caller's pipe is closed.
    fn feed(&mut self, from: OwnedFd) -> io::Result<OwnedFd> {
        let (read_end, write_end) = pipe_with(PipeFlags::CLOEXEC)?;
        fcntl_setfl(&write_end, OFlags::WRONLY | OFlags::NONBLOCK)?;
        let pump = Pump::new(&self.poller, Source::Input, from, write_end)?;
        self.input = Some(Input::new(pump, None));
        Ok(read_end)
    }

    /// Connects the terminal that the runtime has made.
    pub(crate) fn connect(&mut self, master: OwnedFd) -> io::Result<()> {
        let terminal = Terminal::new(master)?;
        if let Some((width, height)) = self.size {
            terminal.resize(width, height)?;
        }
        if let Some((stdin, stdout)) = self.ends.take() {
            let pump = Pump::new(&self.poller, Source::Output, terminal.master()?, stdout)?;
            self.output = Some(pump);
            if let Some(stdio::Input::Pipe(from) | stdio::Input::File(from)) = stdin {
                let pump = Pump::new(&self.poller, Source::Input, from, terminal.master()?)?;
                self.input = Some(Input::new(pump, terminal.eof_char()));
            }
        }
        self.terminal = Some(terminal);
        if self.input_closed {
            self.close_input();
        }
        Ok(())
    }

    /// Remembered for a terminal that is not there yet.
    pub(crate) fn resize(&mut self, width: u16, height: u16) {
        self.size = Some((width, height));
        if let Some(terminal) = &self.terminal {
            // Does not fail for a connected terminal.
            let _ = terminal.resize(width, height);
        }
    }

    /// Remembered for a terminal that is not there yet.
    pub(crate) fn close_input(&mut self) {
        self.input_closed = true;
        self.input = self.input.take().and_then(Input::close);
    }

    pub(crate) fn carry_input(&mut self, flags: EventFlags) {
        self.input = self.input.take().and_then(|input| input.carry(flags));
    }

    /// To be called when nobody reads input any more.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Carries the output of a living process's terminal, as much as there is, but not for so long
    /// that anything else waits.
    pub(crate) fn carry_output(&mut self) {
        for _ in 0..STEPS {
            match self.output.as_mut().map(Pump::step) {
                Some(Step::Moved(_)) => {}
                Some(Step::Broken) => self.lose_output(),
                Some(Step::Ended) => self.output = None,
                None | Some(Step::Starved | Step::Full) => return,
            }
        }
    }

    /// A terminal's output cannot be written: the disk is full, or the logger has ended. The output is read
    /// and discarded, or the process would wait for ever.
    pub(crate) fn lose_output(&mut self) {
        if let Some(output) = &mut self.output
            && output.lose().is_err()
        {
            self.output = None;
        }
    }

    /// After the exit: carries what the terminal still holds, then closes the terminal.
    pub(crate) fn drain(&mut self) -> Drained {
        while let Some(output) = &mut self.output {
            match output.step() {
                Step::Moved(bytes) if self.drained + bytes < TERMINAL_REST => self.drained += bytes,
                Step::Full => return Drained::Blocked,
                // A reading master has seen all that was written before (n_tty_read in n_tty.c).
                _ => self.output = None,
            }
        }
        self.terminal = None;
        Drained::All
    }

    /// Whether somebody reads the output.
    pub(crate) fn has_reader(&mut self) -> bool {
        self.pipes.iter_mut().all(|pipe| pipe.has_reader().unwrap_or(false))
    }

    /// After the exit and the drain: keeps what is unread.
    pub(crate) fn linger(&mut self) {
        let pipes = std::mem::take(&mut self.pipes);
        self.lingering = Lingering::new(pipes);
    }

    /// When to look for readers of unread output, if there is any.
    pub(crate) fn next_check(&self) -> Option<Instant> {
        self.lingering.as_ref().map(Lingering::next_check)
    }

    pub(crate) fn check_readers(&mut self) {
        self.lingering = self.lingering.take().and_then(Lingering::check);
    }

    /// Whether output is still on its way or unread.
    pub(crate) fn are_pending(&self) -> bool {
        self.output.is_some() || self.lingering.is_some()
    }

    pub(crate) fn give_up(&mut self) {
        self.output = None;
        self.terminal = None;
        self.pipes.clear();
        self.lingering = None;
    }
}
