//! A container of `types.API`, from a bundle that this command keeps.

use std::{path::Path, process::ExitCode};

use gantry_client::{Container, ContainerBuilder, Stdio};

use crate::{
    bundles::Bundle,
    failure::{Failure, Outcome},
    held::Held,
    logs::Prepared,
    output,
    session::{Ended, Kind, Session},
    streams::StreamOptions,
};

/// A container that is about to be started from a bundle of this command's.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) streams: StreamOptions,
    /// The file that its output goes to.
    pub(crate) log: Option<Prepared>,
    pub(crate) rm: bool,
    pub(crate) bundle: Bundle,
}

impl Started {
    /// Starts it, stays with it unless it is to be detached, and cleans up.
    pub(crate) async fn run(mut self, builder: ContainerBuilder, server: &Path) -> Outcome {
        let builder =
            builder.stdin(self.streams.stdin()).stdout(self.output()).stderr(self.output());
        let kind = Kind { terminal: self.streams.tty, visit: false };
        let mut session = Session::prepare(&self.streams.session, kind)?;
        let start = Box::pin(builder.start());
        let start = async { start.await.map_err(|e| Failure::of_start(&e)) };
        let container = match session.start(start).await {
            Ok(container) => container,
            Err(failure) => {
                self.bundle.abandon();
                return Err(failure);
            }
        };
        // Not before: until then the bundle may be that of another container, which has the id.
        let log = self.log.take();
        self.bundle
            .begin(log.as_ref().map(Prepared::path))
            .unwrap_or_else(|failure| failure.warn());
        log.into_iter().for_each(Prepared::keep);
        if self.streams.detach {
            output::line(container.id())?;
            self.leave(server)?;
            return Ok(ExitCode::SUCCESS);
        }
        let streams = container.take_stdio().into();
        let ended =
            session.hold(&Held::Process(container.init()), streams).await.map_err(Failure::own)?;
        match ended {
            Ended::Exited(_) => self.clean_up(&container)?,
            Ended::Left(_) => self.leave(server)?,
        }
        Ok(ended.code())
    }

    fn output(&self) -> Stdio {
        let path = self.log.as_ref().map(|log| log.path().to_owned());
        path.map_or_else(|| self.streams.output(), Stdio::Path)
    }

    fn leave(&self, server: &Path) -> Result<(), Failure> {
        if self.rm { self.bundle.mark_for_removal(server) } else { Ok(()) }
    }

    fn clean_up(self, container: &Container) -> Result<(), Failure> {
        container.init().remove_pipes();
        if self.rm { self.bundle.remove() } else { Ok(()) }
    }
}
