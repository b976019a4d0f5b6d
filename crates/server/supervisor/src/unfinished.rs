//! Runtimes that still make a container which is to be removed.
//!
//! A shim ends its runtime when the start fails or the server is gone. Nobody ends the runtime of a shim that was killed:
//! what it makes would appear once the container is removed, with nobody to whom it belongs.

use std::{io, time::Duration};

use gantry_domain::ProcessId;
use gantry_kernel::{PidFd, with_argument};
use gantry_runtime::OciError;
use gantry_shim_proto::PID_FILE;
use nix::libc::SIGKILL;
use tokio::{runtime::Handle, time::timeout};

use crate::{create::Identity, state_dir::ProcessDir};

/// How long a runtime may take to finish. What it makes then is complete, and has a pid file.
const FINISH_DEADLINE: Duration = Duration::from_secs(5);

/// How long it may take to end once it is killed.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

impl Identity {
    /// Waits until no runtime makes the container's first process, if need be by killing it.
    pub(crate) async fn outlast_runtime(&self) -> Result<(), OciError> {
        for runtime in self.working_runtimes().await.map_err(unknown)? {
            if timeout(FINISH_DEADLINE, runtime.exited()).await.is_ok() {
                continue;
            }
            tracing::warn!(container = %self.key, "a runtime without a shim takes too long to make it, and is killed");
            // It may have ended in this moment.
            let _ = runtime.send_signal(SIGKILL);
            if timeout(KILL_DEADLINE, runtime.exited()).await.is_err() {
                return Err(unknown(io::ErrorKind::TimedOut.into()));
            }
        }
        Ok(())
    }

    /// A runtime has the name of the process's pid file among its arguments, which no other has.
    async fn working_runtimes(&self) -> io::Result<Vec<PidFd>> {
        let here = Handle::current();
        let find = move |dir: &ProcessDir, _: &_| {
            let _inside = here.enter();
            with_argument(dir.path().join(PID_FILE).as_os_str())
        };
        self.dir.process(&ProcessId::init()).run(find).await
    }
}

fn unknown(cause: io::Error) -> OciError {
    OciError::System { what: "wait for the runtime that makes the container".to_owned(), cause }
}
