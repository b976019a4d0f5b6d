//! `Attach`: the streams of a process that the server holds.

use std::{pin::Pin, time::Duration};

use gantry_api::v1::{
    self, AttachRequest, AttachResponse, Attached, Output, OutputEnd, OutputGap,
    attach_request::Message as Asked, attach_response::Message,
};
use gantry_domain::ConsoleSize;
use gantry_supervisor::{Attachment, OutputStream, Piece, Stdin, SupervisorError};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle, time::timeout};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Status, Streaming};

use super::service::status;
use crate::{rpc::BadField, services::numbers::cells};

pub(super) type AttachStream = Pin<Box<dyn Stream<Item = Result<AttachResponse, Status>> + Send>>;

/// How long a caller may take to say what it attaches to.
const BEGIN_DEADLINE: Duration = Duration::from_secs(30);

/// How much a process can have written that the server has not read yet: all that fits into two pipes, see pipe(7).
const IN_PIPES: u64 = 2 * (64 << 10);

/// The end of a process, once it is known.
pub(super) type Ending = Pin<Box<dyn Future<Output = Result<v1::Exit, Status>> + Send>>;

/// What a caller's input is for.
pub(super) struct Input {
    pub(super) incoming: Streaming<AttachRequest>,
    pub(super) stdin: Stdin,
}

/// What the first message says.
pub(super) async fn begin(
    incoming: &mut Streaming<AttachRequest>,
) -> Result<v1::AttachBegin, Status> {
    let late = || Status::deadline_exceeded("begin: did not come within 30 seconds");
    let first = timeout(BEGIN_DEADLINE, incoming.message()).await.map_err(|_| late())??;
    match first.and_then(|first| first.message) {
        Some(Asked::Begin(begin)) => Ok(begin),
        _ => Err(BadField::new("begin", "must be the first message").into()),
    }
}

/// Ends what passes the input on, when its caller goes away.
struct Passing(JoinHandle<Status>);

impl Drop for Passing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Reader {
    attachment: Attachment,
    /// None once it is known.
    ending: Option<Ending>,
    /// Reported once there is no output for now, or so many bytes of it were reported.
    end: Option<(u64, Result<v1::Exit, Status>)>,
    output_has_ended: bool,
    failed: bool,
    /// A task of its own: a caller that does not read its output can write.
    input: Passing,
    /// Among the streams of its connection.
    _counted: Option<OwnedSemaphorePermit>,
}

/// Begins with a message that says so. Ends when output and process have ended.
pub(super) fn stream(
    attachment: Attachment,
    ending: Ending,
    input: Input,
    counted: Option<OwnedSemaphorePermit>,
) -> AttachStream {
    let reader = Reader {
        attachment,
        ending: Some(ending),
        end: None,
        output_has_ended: false,
        failed: false,
        input: Passing(tokio::spawn(input.pass())),
        _counted: counted,
    };
    let first = Ok(response(Message::Attached(Attached {})));
    let rest = futures_util::stream::unfold(reader, |mut reader| async move {
        let next = reader.next().await?;
        reader.failed = next.is_err();
        Some((next.map(response), reader))
    });
    Box::pin(tokio_stream::once(first).chain(rest))
}

fn response(message: Message) -> AttachResponse {
    AttachResponse { message: Some(message) }
}

impl Reader {
    async fn next(&mut self) -> Option<Result<Message, Status>> {
        loop {
            if self.failed || self.output_has_ended && self.ending.is_none() && self.end.is_none() {
                return None;
            }
            // What was written before the exit comes before that.
            let is_due =
                |end: &mut (u64, _)| self.output_has_ended || self.attachment.has_read(end.0);
            if let Some((_, exit)) = self.end.take_if(is_due) {
                return Some(exit.map(Message::Exit));
            }
            let ending = async {
                match &mut self.ending {
                    Some(ending) => ending.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Output may never pause.
                biased;
                failed = &mut self.input.0 => {
                    let cannot = |_| Status::internal("the input cannot be passed on");
                    return Some(Err(failed.unwrap_or_else(cannot)));
                }
                exit = ending => {
                    self.ending = None;
                    self.end = Some((self.attachment.written() + IN_PIPES, exit));
                }
                piece = self.attachment.next(), if !self.output_has_ended => {
                    return Some(Ok(self.message(piece)));
                }
                () = std::future::ready(()), if self.end.is_some() => {
                    return self.end.take().map(|(_, exit)| exit.map(Message::Exit));
                }
            }
        }
    }

    fn message(&mut self, piece: Option<Piece>) -> Message {
        match piece {
            Some(Piece::Output { stream, data }) => {
                Message::Output(Output { stream: of_stream(stream).into(), data })
            }
            Some(Piece::Gap(missing_bytes)) => Message::OutputGap(OutputGap { missing_bytes }),
            Some(Piece::End) | None => {
                self.output_has_ended = true;
                Message::OutputEnd(OutputEnd {})
            }
        }
    }
}

fn of_stream(stream: OutputStream) -> v1::OutputStream {
    match stream {
        OutputStream::Stdout => v1::OutputStream::Stdout,
        OutputStream::Stderr => v1::OutputStream::Stderr,
    }
}

impl Input {
    /// Passes the input on for as long as the caller is there; returns why that has failed. The end of the caller's messages
    /// is not the end of stdin.
    async fn pass(mut self) -> Status {
        loop {
            let passed = match self.incoming.message().await {
                Ok(Some(AttachRequest { message })) => self.take(message).await,
                Ok(None) => std::future::pending().await,
                Err(status) => Err(status),
            };
            if let Err(status) = passed {
                return status;
            }
        }
    }

    async fn take(&self, message: Option<Asked>) -> Result<(), Status> {
        match message {
            Some(Asked::StdinData(data)) => {
                let written = self.stdin.write(&data).await;
                written.map_err(|error| Status::internal(format!("stdin: cannot write: {error}")))
            }
            Some(Asked::CloseStdin(v1::CloseStdin {})) => unless_gone(self.stdin.close().await),
            Some(Asked::Resize(v1::Resize { width, height })) => {
                let width = cells("resize.width", width)?;
                let size = ConsoleSize { width, height: cells("resize.height", height)? };
                unless_gone(self.stdin.resize(size).await)
            }
            Some(Asked::Begin(_)) => {
                Err(BadField::new("begin", "must be the first message, and only that").into())
            }
            None => Err(BadField::new("message", "must be given").into()),
        }
    }
}

/// What is written to a process that has just ended is for nobody.
fn unless_gone(done: Result<(), SupervisorError>) -> Result<(), Status> {
    match done {
        Err(
            SupervisorError::ContainerNotFound(_)
            | SupervisorError::ProcessNotFound(_)
            | SupervisorError::ProcessForgotten(_)
            | SupervisorError::ProcessExited(_),
        ) => Ok(()),
        done => done.map_err(|error| status(&error)),
    }
}
