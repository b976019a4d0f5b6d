//! Counts calls: how many there were of each method, with which code they have ended, and how long they took.
//!
//! A call costs a look-up and a few atomic operations. The number of series is bounded: methods are those that have a
//! role ([`super::permission`]), all others are one.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use gantry_measures::{Distribution, Histogram};
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};

/// In place of a method that the server does not have, as OpenTelemetry's conventions want.
pub(super) const OTHER: &str = "_OTHER";

/// gRPC has so many codes.
const CODES: usize = 17;

/// All calls since the server was started.
pub(crate) struct Calls {
    /// By the path with which HTTP names a call.
    places: HashMap<&'static str, usize>,
    /// The last one is that of unknown methods.
    methods: Vec<Method>,
    under_way: AtomicU64,
}

struct Method {
    name: &'static str,
    /// Made when the first call ends with the code.
    durations: [OnceLock<Box<Histogram>>; CODES],
}

/// Calls of a method that have ended with a code.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasuredCalls {
    /// As "types.API/State".
    pub(crate) method: &'static str,
    pub(crate) code: Code,
    /// From the request's headers to the end of the answer.
    pub(crate) durations: Distribution,
}

impl Calls {
    /// For calls with these paths.
    pub(crate) fn new(paths: impl Iterator<Item = &'static str>) -> Arc<Self> {
        let mut methods = Vec::new();
        let mut places = HashMap::new();
        for path in paths {
            places.insert(path, methods.len());
            methods.push(Method::new(path.strip_prefix('/').unwrap_or(path)));
        }
        methods.push(Method::new(OTHER));
        Arc::new(Self { places, methods, under_way: AtomicU64::new(0) })
    }

    fn begin(self: &Arc<Self>, path: &str) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        let method = self.places.get(path).copied().unwrap_or(self.methods.len() - 1);
        UnderWay { calls: Arc::clone(self), method, began: Instant::now(), has_ended: false }
    }

    /// Calls whose answer has not ended.
    pub(crate) fn under_way(&self) -> u64 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// Of each method and code that there was.
    pub(crate) fn read(&self) -> Vec<MeasuredCalls> {
        let all = self.methods.iter().flat_map(|method| {
            let codes = (0..).zip(&method.durations);
            codes.filter_map(|(code, durations)| {
                let durations = durations.get()?.read();
                Some(MeasuredCalls { method: method.name, code: Code::from_i32(code), durations })
            })
        });
        all.collect()
    }
}

impl Method {
    fn new(name: &'static str) -> Self {
        Self { name, durations: [const { OnceLock::new() }; CODES] }
    }
}

/// A call whose answer has not ended. If it is dropped before that, its client is gone.
struct UnderWay {
    calls: Arc<Calls>,
    method: usize,
    began: Instant,
    has_ended: bool,
}

impl UnderWay {
    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let durations = &self.calls.methods[self.method].durations[code as usize];
        durations.get_or_init(Box::default).add(self.began.elapsed());
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
        self.calls.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Has calls counted.
#[derive(Clone)]
pub(crate) struct CallsLayer(Arc<Calls>);

impl CallsLayer {
    pub(crate) fn new(calls: Arc<Calls>) -> Self {
        Self(calls)
    }
}

impl<S> Layer<S> for CallsLayer {
    type Service = Counting<S>;

    fn layer(&self, service: S) -> Counting<S> {
        Counting { service, calls: Arc::clone(&self.0) }
    }
}

/// A service whose calls are counted.
#[derive(Clone)]
pub(crate) struct Counting<S> {
    service: S,
    calls: Arc<Calls>,
}

impl<S> Service<http::Request<Body>> for Counting<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Unpin,
{
    type Response = http::Response<Counted>;
    type Error = S::Error;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let call = self.calls.begin(request.uri().path());
        Call { answer: self.service.call(request), call: Some(call) }
    }
}

/// A call without an answer yet.
pub(crate) struct Call<F> {
    answer: F,
    call: Option<UnderWay>,
}

impl<F, E> Future for Call<F>
where
    F: Future<Output = Result<http::Response<Body>, E>> + Unpin,
{
    type Output = Result<http::Response<Counted>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(cx))?;
        let mut call = self.call.take();
        if let (Some(call), Some(code)) = (&mut call, code(answer.headers())) {
            call.end(code);
        }
        Poll::Ready(Ok(answer.map(|body| Counted { body, call })))
    }
}

/// The code of an answer, where it is.
fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|status| Code::from_bytes(status.as_bytes()))
}

/// An answer whose end is counted.
pub(crate) struct Counted {
    body: Body,
    call: Option<UnderWay>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let ended = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(code),
            Some(Err(status)) => Some(status.code()),
            // Without a code nobody knows.
            None => Some(Code::Unknown),
        };
        if let (Some(call), Some(code)) = (&mut self.call, ended) {
            call.end(code);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(calls: &Calls) -> Vec<(&'static str, Code, u64)> {
        let read = calls.read();
        read.iter().map(|it| (it.method, it.code, it.durations.count())).collect()
    }

    #[test]
    fn a_call_is_counted_once() {
        let calls = Calls::new(["/a.B/C"].into_iter());
        let mut known = calls.begin("/a.B/C");
        assert_eq!(calls.under_way(), 1);
        known.end(Code::NotFound);
        known.end(Code::Ok);
        assert_eq!(counted(&calls), [("a.B/C", Code::NotFound, 1)]);
        drop(known);
        drop(calls.begin("/a.B/C"));
        for unknown in ["/a.B/D", "/", "a.B/C"] {
            calls.begin(unknown).end(Code::Unimplemented);
        }
        assert_eq!(calls.under_way(), 0);
        let expected = [
            ("a.B/C", Code::Cancelled, 1),
            ("a.B/C", Code::NotFound, 1),
            (OTHER, Code::Unimplemented, 3),
        ];
        assert_eq!(counted(&calls), expected);
    }

    #[test]
    fn every_code_has_its_place() {
        assert_eq!(Code::Unauthenticated as usize, CODES - 1);
        let headers = |code: &'static str| {
            HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-status"),
                code.parse().unwrap(),
            )])
        };
        assert_eq!(code(&headers("5")), Some(Code::NotFound));
        assert_eq!(code(&headers("x")), Some(Code::Unknown));
        assert_eq!(code(&HeaderMap::new()), None);
    }
}
