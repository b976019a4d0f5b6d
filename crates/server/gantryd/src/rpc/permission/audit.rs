//! A line of the log, with the target `audit`, for each call that changes something: who has made it, what it was
//! about, and how it has ended.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use gantry_api::containerd::NAMESPACE_METADATA;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tracing::Level;

use crate::access::{Identity, Role};

/// For log filters: `audit=off`, `warn,audit=info`.
const TARGET: &str = "audit";

/// The name of what a call is about: a container's id, mostly. It is an extension of a request that is to be noted,
/// and set when the name has arrived (`rpc/admission`).
#[derive(Clone, Default)]
pub(crate) struct Subject(Arc<Mutex<String>>);

impl Subject {
    pub(crate) fn set(&self, name: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }

    /// The last name, if there is one.
    fn take(&self) -> Option<String> {
        let name = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        (!name.is_empty()).then_some(name)
    }
}

/// A call that is under way. Its line is written when it ends, or when its client goes away.
pub(super) struct Record {
    who: Arc<Identity>,
    role: Option<Role>,
    call: &'static str,
    namespace: Option<String>,
    subject: Subject,
    is_written: bool,
}

impl Record {
    /// Whether such a line is logged at all.
    pub(super) fn is_wanted(allowed: bool) -> bool {
        if allowed {
            tracing::enabled!(target: TARGET, Level::INFO)
        } else {
            tracing::enabled!(target: TARGET, Level::WARN)
        }
    }

    pub(super) fn new(
        who: Arc<Identity>,
        role: Option<Role>,
        call: &'static str,
        request: &mut http::Request<Body>,
    ) -> Self {
        let subject = Subject::default();
        request.extensions_mut().insert(subject.clone());
        let namespace = request.headers().get(NAMESPACE_METADATA);
        let namespace = namespace.and_then(|name| name.to_str().ok()).map(str::to_owned);
        Self { who, role, call, namespace, subject, is_written: false }
    }

    /// Writes the line, unless it is written.
    pub(super) fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_written, true) {
            return;
        }
        let Self { who, role, call, .. } = self;
        let (uid, pid) = (who.user, who.process);
        let role = role.map_or_else(|| "none".to_owned(), |role| role.to_string());
        let namespace = self.namespace.as_deref();
        let subject = self.subject.take();
        if code == Code::PermissionDenied {
            tracing::warn!(target: TARGET, call, uid, pid, role, namespace, subject, ?code);
        } else {
            tracing::info!(target: TARGET, call, uid, pid, role, namespace, subject, ?code);
        }
    }
}

impl Drop for Record {
    /// Nobody waits for the answer any more.
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// Waits for the answer, and has its end noted.
pub(super) async fn noted<E>(
    call: impl Future<Output = Result<http::Response<Body>, E>>,
    mut record: Record,
) -> Result<http::Response<Body>, E> {
    let answer = call.await?;
    if let Some(status) = Status::from_header_map(answer.headers()) {
        record.end(status.code());
        return Ok(answer);
    }
    Ok(answer.map(|body| Body::new(Noted { body, record })))
}

/// An answer whose end is noted.
struct Noted {
    body: Body,
    record: Record,
}

impl HttpBody for Noted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    self.record.end(status.code());
                }
            }
            Some(Err(status)) => self.record.end(status.code()),
            // Without a status nobody knows.
            None => self.record.end(Code::Unknown),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
