//! One call: how long it may take, and when it is made again.
//!
//! A call that was never sent, as there was no connection, is made again whatever it does. One whose
//! answer was lost is made again only if it does the same twice. Both go on for as long as the
//! client's patience with an absent server lasts, and within the call's own deadline.

use std::{future::Future, time::Duration};

use tokio::time::{self, Instant};
use tonic::{Response, Status};

use crate::{
    backoff::Backoff,
    connection::{Api, Connection},
    error::{Error, ErrorKind, Result},
    status,
};

/// What a call does, for its errors, and what may be done about its failure.
pub(crate) struct Operation<'a> {
    name: String,
    /// The program that it starts.
    command: Option<&'a str>,
    /// Whether the second of two such calls changes nothing.
    repeatable: bool,
    /// The deadline of a call for which the client's own is too short.
    deadline: Option<Duration>,
}

impl<'a> Operation<'a> {
    /// An operation that must not be done twice unnoticed.
    pub(crate) fn once(name: impl Into<String>) -> Operation<'a> {
        Operation { name: name.into(), command: None, repeatable: false, deadline: None }
    }

    /// An operation that can be repeated any number of times.
    pub(crate) fn repeatable(name: impl Into<String>) -> Operation<'a> {
        Operation { repeatable: true, ..Operation::once(name) }
    }

    pub(crate) fn starts(self, command: Option<&'a str>) -> Operation<'a> {
        Operation { command, ..self }
    }

    /// Unless the caller has set a limit of its own.
    pub(crate) fn within(self, deadline: Duration) -> Operation<'a> {
        Operation { deadline: Some(deadline), ..self }
    }

    fn may_be_repeated(&self, status: &Status) -> bool {
        status::is_unsent(status) || (self.repeatable && status::is_away(status))
    }
}

impl Connection {
    /// Makes the call, again if need be, until it is answered or its time is up.
    pub(crate) async fn call<Q, T, F>(
        &self,
        operation: Operation<'_>,
        request: Q,
        method: impl Fn(Api, Q) -> F,
    ) -> Result<T>
    where
        Q: Clone,
        F: Future<Output = std::result::Result<Response<T>, Status>>,
    {
        let deadline = self.deadline(operation.deadline);
        let attempts = async {
            let mut absence = Absence::since_now(self.patience());
            loop {
                // Boxed, as tonic's futures are several KiB.
                match Box::pin(method(self.api(), request.clone())).await {
                    Ok(response) => return Ok(response.into_inner()),
                    Err(status) if !operation.may_be_repeated(&status) => return Err(status),
                    Err(status) => {
                        if !absence.may_go_on(status::is_unsent(&status)).await {
                            return Err(status);
                        }
                    }
                }
            }
        };
        match time::timeout(deadline, attempts).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(status::error(operation.name, status, operation.command)),
            Err(_) => {
                let message = format!("no answer within {} s", deadline.as_secs_f32());
                Err(Error::new(operation.name, ErrorKind::DeadlineExceeded(message)))
            }
        }
    }
}

/// For how long a server has been away, and how much longer calls wait for it.
#[derive(Debug)]
pub(crate) struct Absence {
    since: Instant,
    /// The server was there at first.
    lost: bool,
    patience: Duration,
    backoff: Backoff,
}

impl Absence {
    pub(crate) fn since_now(patience: Duration) -> Absence {
        Absence { since: Instant::now(), lost: false, patience, backoff: Backoff::new() }
    }

    /// Waits a little before the next attempt; `false` when that would exceed the client's patience.
    ///
    /// An attempt that could not be sent has waited for the server itself, so that its time counts;
    /// the time up to the loss of a connection does not.
    pub(crate) async fn may_go_on(&mut self, unsent: bool) -> bool {
        if !unsent && !self.lost {
            self.lost = true;
            self.since = Instant::now();
        }
        let pause = self.backoff.next();
        if self.since.elapsed() + pause > self.patience {
            return false;
        }
        time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loss_is_put_up_with_for_as_long_as_the_patience_lasts() {
        let mut absence = Absence::since_now(Duration::from_secs(10));
        // A long call, which the connection broke under.
        time::sleep(Duration::from_secs(60)).await;
        let begun = Instant::now();
        while absence.may_go_on(false).await {}
        let borne = begun.elapsed();
        assert!((7..=10).contains(&borne.as_secs()), "{borne:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_connection_counts() {
        let mut absence = Absence::since_now(Duration::from_secs(10));
        time::sleep(Duration::from_secs(10)).await;
        assert!(!absence.may_go_on(true).await);
    }
}
