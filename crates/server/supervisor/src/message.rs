//! What a container's actor is told.

use std::sync::Arc;

use gantry_domain::{Exit, ProcessId, ProcessSpec};
use tracing::Span;

use crate::{
    LaunchPermit, SupervisorError,
    create::Created,
    handle::{ContainerView, Reply, Request},
    inspect::Reattached,
    operation::Operation,
    recovered_state::RecoveredExec,
    remains::Remaining,
    restore::Restored,
    running_process::RunningProcess,
    teardown::Users,
};

/// Messages to a container's actor.
pub(crate) enum Message {
    Request(Request),
    /// As part of the trace of the call that it is for.
    Within(Span, Box<Message>),
    /// It is known what became of an earlier server's container.
    Reattached(Box<Reattached>),
    /// Finding that out takes longer than it should.
    Delayed,
    /// What records say of further processes while reattaching takes long.
    Recorded(Vec<RecoveredExec>),
    /// The runtime is about to make the first process.
    Launching,
    /// The first process was started, or was not.
    Created {
        result: Result<Box<Created>, SupervisorError>,
        reply: Reply<ContainerView>,
        permit: LaunchPermit,
    },
    /// The first process of a created container was started, or was not.
    Started {
        result: Result<(), SupervisorError>,
        reply: Reply<u32>,
    },
    /// The first process was restored from an image, or was not.
    Restored {
        result: Result<Box<Restored>, SupervisorError>,
        reply: Reply<u32>,
    },
    /// A further process was started, or was not.
    ExecStarted {
        spec: Arc<ProcessSpec>,
        result: Result<RunningProcess, SupervisorError>,
        reply: Reply<u32>,
    },
    Exited {
        process: ProcessId,
        exit: Exit,
    },
    OutOfMemory {
        kills: u64,
    },
    /// The runtime has done what a request asked for, or has not.
    Operated {
        operation: Arc<Operation>,
        result: Result<(), SupervisorError>,
        reply: Reply<()>,
    },
    /// Further processes do not end, though they were killed.
    ExecsOverdue,
    /// No process of the container is left; who else is in its cgroup, if known.
    RestKilled(Option<Users>),
    /// Runtime and kernel have nothing of the container any more, or the error says what is left.
    Removed(Result<(), Remaining>),
}

impl From<Request> for Message {
    fn from(request: Request) -> Self {
        Self::Request(request)
    }
}

impl Message {
    /// As part of the trace of the call under way.
    pub(crate) fn in_trace(self) -> Self {
        let span = Span::current();
        if span.is_none() { self } else { Self::Within(span, Box::new(self)) }
    }

    /// Whether an operation is over.
    pub(crate) fn ends_operation(&self) -> bool {
        matches!(self, Self::Started { .. } | Self::Restored { .. } | Self::Operated { .. })
    }

    /// Without its trace, and the trace.
    pub(crate) fn out_of_trace(self) -> (Self, Span) {
        match self {
            Self::Within(span, message) => (*message, span),
            other => (other, Span::none()),
        }
    }
}
