//! Requests of a container that is kept wait for the operation under way, as callers of containerd expect. Each is
//! allowed or refused by the state that the container then has. A caller of `types.API` gets an error that names the
//! operation instead.

use std::collections::VecDeque;

use tracing::{Instrument, Span};

use crate::{
    Caller,
    actor::Actor,
    handle::{DeletedProcess, Reply},
    operation::{Activity, Operation},
};

/// How many requests may wait at a time. Behind so many, a refusal is better than a place in the queue.
const MOST: usize = 64;

/// A request that waits.
pub(crate) enum Pending {
    Operate(Operation, Reply<()>),
    Start(Caller, Reply<u32>),
    Delete(Reply<DeletedProcess>),
}

/// Requests in the order in which they came. Those that are left when the container is gone are dropped, which
/// answers that it is gone.
#[derive(Default)]
pub(crate) struct Queue(VecDeque<(Pending, Span)>);

impl Actor {
    /// Does what is asked for, once no operation is under way.
    pub(crate) async fn in_turn(&mut self, request: Pending) {
        match self.activity {
            Activity::Changing(_) if self.is_kept() && self.pending.0.len() < MOST => {
                self.pending.0.push_back((request, Span::current()));
            }
            _ => self.begin_pending(request).await,
        }
    }

    /// An operation is over: goes on with what has waited for its end.
    pub(crate) async fn go_on_with_pending(&mut self) {
        while !matches!(self.activity, Activity::Changing(_))
            && let Some((request, span)) = self.pending.0.pop_front()
        {
            self.begin_pending(request).instrument(span).await;
        }
    }

    async fn begin_pending(&mut self, request: Pending) {
        match request {
            // A caller that is gone needs nothing any more.
            Pending::Operate(_, reply) if reply.is_closed() => {}
            Pending::Operate(operation, reply) => self.operate(operation, reply).await,
            Pending::Start(caller, reply) if self.is_dormant() => {
                self.start_restored(caller, reply).await;
            }
            Pending::Start(_, reply) => self.start_init(reply).await,
            Pending::Delete(reply) => self.delete_all(reply).await,
        }
    }
}
