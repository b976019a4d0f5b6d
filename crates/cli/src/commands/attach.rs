//! `gantry attach`

use clap::Args;
use gantry_client::{Client, INIT};

use crate::{
    attached::Streams,
    failure::{Failure, Outcome},
    held::{Held, HeldStreams},
    session::{Ended, Kind, Session},
    streams::SessionOptions,
};

/// Go on with a process that was left running
///
/// Left by the detach keys, by a terminal that was closed, or by -d with -i. Its output that nobody has
/// read comes first: up to 64 KiB, which is what a pipe holds; a process that writes more waits. One
/// command at a time can be attached to a process; a second one is refused.
///
/// The end of this command's standard input does not end the process's. Signals are passed on to the
/// process, as with `gantry run`, but for SIGHUP: this command leaves then, as it does when nobody
/// reads its output any more, and the process goes on. The exit status is the process's, 0 after the
/// detach keys, and 128+n where signal n has ended this command.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    session: SessionOptions,
    /// Do not pass standard input on
    #[arg(long)]
    no_stdin: bool,
    /// Id of the process in the container
    #[arg(long, value_name = "PROCESS", default_value = INIT)]
    pid: String,
    /// Id of the container
    id: String,
}

impl Attach {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        let container = client.container(&self.id);
        let state = container.state().await?;
        let Some(found) = state.processes.iter().find(|process| process.pid == self.pid) else {
            return Err(Failure::new(format!("{} has no process {}", self.id, self.pid)));
        };
        let claimed = Streams::claim(&self.id, found)?;
        let process = container.attach(&self.pid).await?;
        // Up to here a signal ends this command; from here on signals are for the process.
        let kind = Kind { terminal: found.terminal, visit: true };
        let session = Session::prepare(&self.session, kind)?;
        let mut streams = HeldStreams::from(process.take_stdio());
        if self.no_stdin {
            streams.stdin = None;
        }
        let ended = session.hold(&Held::Process(&process), streams).await?;
        if let Ended::Exited(_) = ended {
            claimed.clean_up(&process)?;
        }
        Ok(ended.code())
    }
}
