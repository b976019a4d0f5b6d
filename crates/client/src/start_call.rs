//! The call that starts a container or a further process, whose answer may get lost.
//!
//! If the call were simply repeated, a server would answer that the id is taken, or run the program twice.
//! The event of a start precedes the answer, and a restarted server removes every start without an
//! event: so the stored events say whether it happened.

use std::future::Future;

use gantry_api::{INIT, Timestamp};

use crate::{
    call::Absence,
    client::Client,
    error::{Error, ErrorKind, Result},
    event::{self, EventKind},
    event_stream,
    exits::Key,
    state::find_container,
    status,
};

/// A start as requested.
#[derive(Debug)]
pub(crate) struct StartCall<'a> {
    pub(crate) client: &'a Client,
    pub(crate) key: &'a Key,
    /// Not made again, even if nothing is left of the first attempt.
    pub(crate) at_most_once: bool,
    /// The call has a key by which a server that knows it answers a repetition with what the first call has made.
    pub(crate) has_key: bool,
}

/// What became of a start without an answer.
enum Fate {
    /// It happened; the pid, unless the process has ended since.
    Happened(Option<u32>),
    /// The id is taken, but there is no event of a start: it is still under way, or somebody else's.
    Undecided,
    /// There is nothing.
    Never,
}

impl StartCall<'_> {
    /// Makes the call until it is answered, or until it is known to have had its effect.
    pub(crate) async fn run<F>(&self, call: impl Fn() -> F) -> Result<Option<u32>>
    where
        F: Future<Output = Result<Option<u32>>>,
    {
        let since = event::now();
        let lost = match call().await {
            Err(error) if is_lost(&error) => error,
            answered => return answered,
        };
        let mut absence = Absence::since_now(self.client.connection.patience());
        loop {
            match self.fate(since).await {
                Ok(Fate::Happened(pid)) => return Ok(pid),
                Ok(Fate::Never) if self.at_most_once => return Err(lost),
                Ok(Fate::Undecided) if self.at_most_once || !self.has_key => {}
                Ok(Fate::Never) => match call().await {
                    // Taken: by the first attempt, which is at work or being removed.
                    Err(error) if is_lost(&error) || is_taken(&error) => {}
                    answered => return answered,
                },
                // A server that knows the key says whose the container is. Any other refusal is of this call, and says
                // nothing of what the first attempt has made.
                Ok(Fate::Undecided) => match call().await {
                    Err(error) if !is_of_request(&error) => {}
                    answered => return answered,
                },
                // The client's patience is used up already.
                Err(_) => return Err(lost),
            }
            if !absence.may_go_on(false).await {
                return Err(lost);
            }
        }
    }

    async fn fate(&self, since: Timestamp) -> Result<Fate> {
        let Key { container, process } = self.key;
        let connection = &self.client.connection;
        // Before the events are read, so that a process that ends in between has its start among them.
        let found = find_container(connection, container).await?;
        let process_found = found.as_ref().and_then(|found| {
            found.processes.iter().find(|p| p.pid == *process).map(|p| p.system_pid)
        });
        let events = event_stream::stored(connection, Some(container)).await?;
        let started = |kind: &EventKind| match kind {
            EventKind::Started => process == INIT,
            EventKind::ProcessStarted { process: started } => started == process,
            EventKind::Exited { process: ended, .. } => ended == process,
            _ => false,
        };
        let later = |time: &Timestamp| event::compare(time, &since).is_ge();
        if events.iter().any(|event| later(&event.time) && started(&event.kind)) {
            return Ok(Fate::Happened(process_found));
        }
        let taken = if process == INIT { found.is_some() } else { process_found.is_some() };
        Ok(if taken { Fate::Undecided } else { Fate::Never })
    }
}

/// Whether the call was lost with the connection, or refused by a server that is stopping; any other
/// refusal is an answer.
fn is_lost(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Unavailable(message) => {
            std::error::Error::source(error).is_some() || status::is_stopping(message)
        }
        _ => false,
    }
}

/// Whether the request itself is refused, also as its key was given with another one.
fn is_of_request(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidArgument { .. })
}

fn is_taken(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::AlreadyExists(_))
}
