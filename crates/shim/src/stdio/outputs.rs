//! Both outputs of a process, which may be one.

use std::os::fd::OwnedFd;

use gantry_shim_proto::{Launch, LaunchError};
use rustix::fs::OFlags;

use super::uri::{Program, Target};
use super::{Output, OutputPipe, failed, make_output, open_output};
use crate::logger::{Logger, refused};
use crate::poll::Poller;

/// What a process writes to.
pub(crate) struct Outputs {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Named pipes, for the shim to keep.
    pub(crate) pipes: Vec<OutputPipe>,
    /// The program that reads one output or both, just started.
    pub(crate) logger: Option<Logger>,
}

/// Where one output goes.
enum Place {
    Opened(Output),
    Program(Program),
}

impl Outputs {
    /// Opens what `launch` names. With a terminal all goes to stdout, and not by the process but by the
    /// shim, which does not wait for readers. As with containerd, an empty stderr is the same as stdout
    /// where that is a URI.
    pub(crate) fn open(poller: &Poller, launch: &Launch) -> Result<Self, LaunchError> {
        let mode = if launch.terminal { OFlags::NONBLOCK } else { OFlags::empty() };
        let out = parse(&launch.stdout)?;
        let is_uri = !matches!(out, Target::Path(_));
        let err = match launch.stderr.as_str() {
            _ if launch.terminal => None,
            "" if is_uri => None,
            uri => Some(parse(uri)?),
        };
        let equal = err.as_ref() == Some(&out);
        let out = Place::open(&launch.stdout, out, mode)?;
        let err = match err {
            // A named pipe is opened for each.
            Some(_) if equal && !out.is_pipe() => None,
            Some(target) => Some(Place::open(&launch.stderr, target, mode)?),
            None => None,
        };
        let mut pipes = Vec::new();
        let mut keep = |output: Output| {
            pipes.extend(output.pipe);
            output.writer
        };
        let start =
            |uri: &str, program| Logger::start(poller, uri, program, &launch.logger_env, mode);
        let (stdout, stderr, logger) = match (out, err) {
            (Place::Opened(out), None) => {
                let stdout = keep(out);
                let stderr = stdout.try_clone().map_err(failed(&launch.stderr))?;
                (stdout, stderr, None)
            }
            (Place::Opened(out), Some(Place::Opened(err))) => (keep(out), keep(err), None),
            (Place::Program(program), None) => {
                let (logger, [stdout, stderr]) = start(&launch.stdout, program)?;
                (stdout, stderr, Some(logger))
            }
            // The program gets end of file for the stream that it does not read.
            (Place::Program(program), Some(Place::Opened(err))) => {
                let (logger, [stdout, _]) = start(&launch.stdout, program)?;
                (stdout, keep(err), Some(logger))
            }
            (Place::Opened(out), Some(Place::Program(program))) => {
                let (logger, [_, stderr]) = start(&launch.stderr, program)?;
                (keep(out), stderr, Some(logger))
            }
            (Place::Program(_), Some(Place::Program(_))) => {
                let why = "stdout has another program, and one reads both";
                return Err(refused(&launch.stderr, why));
            }
        };
        Ok(Self { stdout, stderr, pipes, logger })
    }
}

impl Place {
    fn open(uri: &str, target: Target, mode: OFlags) -> Result<Self, LaunchError> {
        let opened = match target {
            Target::Path(path) => open_output(path, mode),
            Target::File(path) => make_output(&path, mode),
            Target::Program(program) => return Ok(Self::Program(program)),
        };
        opened.map(Self::Opened).map_err(failed(uri))
    }

    fn is_pipe(&self) -> bool {
        matches!(self, Self::Opened(Output { pipe: Some(_), .. }))
    }
}

fn parse(uri: &str) -> Result<Target, LaunchError> {
    Target::parse(uri).map_err(|why| refused(uri, &why))
}
