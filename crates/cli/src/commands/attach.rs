//! `gantry attach`

use clap::Args;
use gantry_api::containerd::task_types::Process;
use gantry_client::{Client, INIT};

use crate::{
    attached::Streams,
    bundles::{self, TaskDir},
    failure::{Failure, Outcome},
    fifos::{self, Paths},
    held::{Held, HeldStreams},
    place::{Found, PlaceOption},
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
    #[command(flatten)]
    place: PlaceOption,
    /// Id of the container
    id: String,
}

impl Attach {
    pub(crate) async fn run(self, client: &Client) -> Outcome {
        if let Some(found) = self.place.find(client, &self.id).await? {
            return self.attach_in(&found).await;
        }
        let container = client.container(&self.id);
        let state = container.state().await?;
        let Some(found) = state.processes.iter().find(|process| process.pid == self.pid) else {
            return Err(Failure::new(format!("{} has no process {}", self.id, self.pid)));
        };
        let paths = [&*found.stdin, &*found.stdout, &*found.stderr];
        let claimed = Streams::claim(&self.name(), &bundles::directory(&self.id), paths)?;
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

    async fn attach_in(&self, container: &Found) -> Outcome {
        let task = container.process(&self.pid);
        let Some(process) = task.get().await? else {
            return Err(Failure::new(format!("{} has no process {}", self.id, self.pid)));
        };
        let Process { stdin, stdout, stderr, terminal, .. } = process;
        let own = TaskDir::of(container.containers.namespace(), &self.id);
        let claimed = Streams::claim(&self.name(), &own, [&*stdin, &*stdout, &*stderr])?;
        let session = Session::prepare(&self.session, Kind { terminal, visit: true })?;
        let mut ends = fifos::open(&Paths { stdin, stdout, stderr })?;
        if self.no_stdin {
            ends.stdin = None;
        }
        let streams = HeldStreams::of_task(ends, &task);
        let ended = session.hold(&Held::Task(&task), streams).await?;
        if let Ended::Exited(_) = ended
            && !claimed.clean_up_exec()
        {
            container.containers.clean_up(&container.record).await?;
        }
        Ok(ended.code())
    }

    fn name(&self) -> String {
        format!("{}/{}", self.id, self.pid)
    }
}
