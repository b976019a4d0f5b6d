//! The records.

use crate::codec::{DecodeError, Reader, Writer};

/// Records from the server to a shim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToShim {
    /// Start the process. The first record of a shim's life, sent once. A copy of the runtime, a file that can
    /// be executed and not be changed, may travel with it as `SCM_RIGHTS`.
    Launch(Box<Launch>),
    /// Kill the runtime if it still runs, and what it started; answered by `LaunchFailed`.
    /// Too late once `Launched` was sent, and ignored then.
    Abort,
    /// Deliver what is in the stdin pipe, then end the input: for a process with a terminal, by typing the
    /// terminal's end-of-file character. Idempotent.
    CloseStdin,
    /// New size of the terminal in character cells.
    Resize {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// The exit (or the failed launch) is recorded: the shim may exit.
    Ack,
}

/// How to start a process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The runtime and all its arguments. It is to start the process detached, write
    /// [`crate::PID_FILE`] and exit.
    pub argv: Vec<String>,
    /// The process has a terminal, which arrives on [`crate::CONSOLE_FILE`].
    pub terminal: bool,
    /// An absolute path; empty means /dev/null.
    pub stdin: String,
    /// As `stdin`, or a URI: `fifo:///path` is the path, `file:///path` a file that is made and
    /// appended to, `binary:///path?key=value` (or `binary-v2:`) a program that reads the output. With a terminal all
    /// output goes here.
    pub stdout: String,
    /// As `stdout`. Empty means the same as `stdout` where that is a file or a program by URI.
    pub stderr: String,
    /// First size of the terminal in character cells; zero leaves it to the runtime.
    pub width: u16,
    /// See `width`.
    pub height: u16,
    /// How long output that nobody has read stays readable after the exit, in milliseconds.
    pub linger_ms: u32,
    /// More of the runtime's environment, `NAME=VALUE`.
    pub env: Vec<String>,
    /// The shim's name in the process list from now on, and arguments, for people to read.
    pub title: Vec<String>,
    /// What is to be written to the runtime's `oom_score_adj` (see proc(5)), which the process inherits;
    /// empty leaves the shim's.
    pub oom_score_adj: String,
    /// The environment, but for PATH, of a program that reads the output, `NAME=VALUE`.
    pub logger_env: Vec<String>,
    /// User who is to own the pipes that the process reads and writes, which is root in a user namespace; with
    /// both 0 their owners stay.
    pub io_uid: u32,
    /// See `io_uid`.
    pub io_gid: u32,
    /// The runtime's working directory; empty leaves the shim's. One that cannot be entered counts for nothing.
    pub directory: String,
}

/// Records from a shim to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromShim {
    /// The runtime has succeeded and the process lives (or has lived). A pidfd of the process
    /// travels with this record as `SCM_RIGHTS`.
    Launched {
        /// Pid in the shim's pid namespace.
        pid: u32,
    },
    /// No process was started. The last record of a shim's life.
    LaunchFailed(LaunchError),
    /// The process has ended, and all it wrote is in its pipes (a terminal's within a bound).
    /// The last record of a shim's life.
    Exited {
        /// How it ended.
        status: WaitStatus,
        /// When, in nanoseconds since the epoch.
        at: u64,
    },
}

/// Why a launch failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LaunchError {
    /// A stdio path could not be opened.
    Stdio {
        /// The path.
        path: String,
        /// errno.
        errno: i32,
    },
    /// A system call of the shim failed.
    System {
        /// What the shim was doing.
        what: String,
        /// errno.
        errno: i32,
    },
    /// The runtime could not be executed.
    Exec {
        /// errno.
        errno: i32,
    },
    /// The runtime failed; [`crate::LOG_FILE`] says why.
    Runtime {
        /// How it ended.
        status: WaitStatus,
        /// The runtime's standard error, as far as nobody has read it yet. It may be
        /// output of the process, as the two share a stream where there is no terminal.
        printed: String,
    },
    /// A stdio URI cannot be served, or the program that it names failed.
    Uri {
        /// The URI, as it came.
        uri: String,
        /// What is wrong, in words that follow the URI and a colon.
        why: String,
    },
    /// The server asked for it.
    Aborted,
}

/// How a process ended, see wait(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitStatus {
    /// It called exit with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

const LAUNCH: u8 = 1;
const ABORT: u8 = 2;
const CLOSE_STDIN: u8 = 3;
const RESIZE: u8 = 4;
const ACK: u8 = 5;

const LAUNCHED: u8 = 65;
const LAUNCH_FAILED: u8 = 66;
const EXITED: u8 = 67;

const FAILED_STDIO: u8 = 1;
const FAILED_SYSTEM: u8 = 2;
const FAILED_EXEC: u8 = 3;
const FAILED_RUNTIME: u8 = 4;
const FAILED_URI: u8 = 5;

impl ToShim {
    /// The record as a packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Launch(launch) => Writer::new(LAUNCH)
                .list(&launch.argv)
                .bool(launch.terminal)
                .str(&launch.stdin)
                .str(&launch.stdout)
                .str(&launch.stderr)
                .u16(launch.width)
                .u16(launch.height)
                .u32(launch.linger_ms)
                .list(&launch.env)
                .list(&launch.title)
                .str(&launch.oom_score_adj)
                .list(&launch.logger_env)
                .u32(launch.io_uid)
                .u32(launch.io_gid)
                .str(&launch.directory)
                .finish(),
            Self::Abort => Writer::new(ABORT).finish(),
            Self::CloseStdin => Writer::new(CLOSE_STDIN).finish(),
            Self::Resize { width, height } => Writer::new(RESIZE).u16(*width).u16(*height).finish(),
            Self::Ack => Writer::new(ACK).finish(),
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// `UnknownKind` for a record of a later version, which is to be skipped; anything else means
    /// that the packet is damaged.
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = Reader::open(packet)?;
        match kind {
            LAUNCH => Ok(Self::Launch(Box::new(Launch {
                argv: fields.list()?,
                terminal: fields.bool()?,
                stdin: fields.str()?,
                stdout: fields.str()?,
                stderr: fields.str()?,
                width: fields.u16()?,
                height: fields.u16()?,
                linger_ms: fields.u32()?,
                env: fields.list()?,
                title: fields.list()?,
                oom_score_adj: fields.str()?,
                logger_env: fields.list()?,
                io_uid: fields.u32()?,
                io_gid: fields.u32()?,
                directory: fields.str()?,
            }))),
            ABORT => Ok(Self::Abort),
            CLOSE_STDIN => Ok(Self::CloseStdin),
            RESIZE => Ok(Self::Resize { width: fields.u16()?, height: fields.u16()? }),
            ACK => Ok(Self::Ack),
            other => Err(DecodeError::UnknownKind(other)),
        }
    }
}

impl FromShim {
    /// The record as a packet.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Launched { pid } => Writer::new(LAUNCHED).u32(*pid).finish(),
            Self::LaunchFailed(error) => error.encode(&mut Writer::new(LAUNCH_FAILED)),
            Self::Exited { status, at } => {
                let mut fields = Writer::new(EXITED);
                status.encode(&mut fields);
                fields.u64(*at).finish()
            }
        }
    }

    /// Reads a packet.
    ///
    /// # Errors
    /// As [`ToShim::decode`].
    pub fn decode(packet: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = Reader::open(packet)?;
        match kind {
            LAUNCHED => Ok(Self::Launched { pid: fields.u32()? }),
            LAUNCH_FAILED => Ok(Self::LaunchFailed(LaunchError::decode(&mut fields)?)),
            EXITED => {
                Ok(Self::Exited { status: WaitStatus::decode(&mut fields)?, at: fields.u64()? })
            }
            other => Err(DecodeError::UnknownKind(other)),
        }
    }
}

impl LaunchError {
    // Aborted is kind 0, which a reader also gets for a missing kind.
    fn encode(&self, fields: &mut Writer) -> Vec<u8> {
        match self {
            Self::Aborted => fields.u8(0).finish(),
            Self::Stdio { path, errno } => {
                fields.u8(FAILED_STDIO).u32(errno.cast_unsigned()).str(path).finish()
            }
            Self::System { what, errno } => {
                fields.u8(FAILED_SYSTEM).u32(errno.cast_unsigned()).str(what).finish()
            }
            Self::Exec { errno } => fields.u8(FAILED_EXEC).u32(errno.cast_unsigned()).finish(),
            Self::Runtime { status, printed } => {
                fields.u8(FAILED_RUNTIME);
                status.encode(fields);
                fields.str(printed).finish()
            }
            Self::Uri { uri, why } => fields.u8(FAILED_URI).str(uri).str(why).finish(),
        }
    }

    fn decode(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match fields.u8()? {
            FAILED_STDIO => {
                let errno = fields.u32()?.cast_signed();
                Self::Stdio { path: fields.str()?, errno }
            }
            FAILED_SYSTEM => {
                let errno = fields.u32()?.cast_signed();
                Self::System { what: fields.str()?, errno }
            }
            FAILED_EXEC => Self::Exec { errno: fields.u32()?.cast_signed() },
            FAILED_RUNTIME => {
                let status = WaitStatus::decode(fields)?;
                Self::Runtime { status, printed: fields.str()? }
            }
            FAILED_URI => Self::Uri { uri: fields.str()?, why: fields.str()? },
            _ => Self::Aborted,
        })
    }
}

impl WaitStatus {
    fn encode(self, fields: &mut Writer) {
        match self {
            Self::Code(code) => fields.u8(0).u8(code),
            Self::Signal(signal) => fields.u8(1).u8(signal),
        };
    }

    fn decode(fields: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match fields.exact()? {
            [0, code] => Self::Code(code),
            [_, signal] => Self::Signal(signal),
        })
    }
}
