//! Who was killed when, and whose status may be lost for that.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

/// A moment in nanoseconds since the epoch.
pub(crate) type Moment = u128;

pub(crate) fn now() -> Moment {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos()
}

/// Everything that was killed.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    pub(crate) servers: Vec<Moment>,
    /// Container, process, moment.
    pub(crate) shims: Vec<(String, String, Moment)>,
    /// The command and the moment.
    pub(crate) runtimes: Vec<(String, Moment)>,
}

impl Kills {
    /// Whether the true status of a process that was reported to have ended at `end` may be lost: its
    /// shim was killed, and the server, which then was the only one to know, as well.
    pub(crate) fn may_be_unknown(
        &self,
        (container, process): (&str, &str),
        (start, end): (Moment, Moment),
    ) -> bool {
        let during = |at: &Moment| (start..=end).contains(at);
        let shim =
            |(c, p, at): &(String, String, Moment)| c == container && p == process && during(at);
        self.shims.iter().any(shim) && self.servers.iter().any(during)
    }

    /// Whether a runtime was killed while it started a container of this id, itself or with its server. What was to
    /// become the container's program then ends, as there is nobody to whom it could say that it starts.
    pub(crate) fn may_fail_to_start(&self, id: &str, (begin, end): (Moment, Moment)) -> bool {
        let during = |at: &Moment| (begin..=end).contains(at);
        let command = format!(" start {id}");
        let runtime = |(killed, at): &(String, Moment)| killed.ends_with(&command) && during(at);
        self.runtimes.iter().any(runtime) || self.servers.iter().any(during)
    }
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, shims, runtimes } = self;
        let (servers, shims, runtimes) = (servers.len(), shims.len(), runtimes.len());
        write!(f, "killed: {servers} servers, {shims} shims, {runtimes} runtimes")
    }
}
