//! Runs a service's calls on a runtime of their own.
//!
//! A handler never blocks the threads that drive connections and answer health.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{runtime::Handle, task::JoinHandle};
use tonic::{
    Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};
use tracing::Instrument;

type Answer = Result<http::Response<Body>, Infallible>;

/// A service whose calls run on `runtime`.
#[derive(Clone)]
pub(crate) struct Aside<S> {
    service: S,
    runtime: Handle,
}

impl<S> Aside<S> {
    pub(crate) fn new(service: S, runtime: Handle) -> Self {
        Self { service, runtime }
    }
}

impl<S: NamedService> NamedService for Aside<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Aside<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Call;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Call {
        Call(self.runtime.spawn(self.service.call(request).in_current_span()))
    }
}

/// A call under way. It is cancelled when this is dropped, as it would be without a runtime of its own.
pub(crate) struct Call(JoinHandle<Answer>);

impl Future for Call {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        Poll::Ready(ready!(Pin::new(&mut self.0).poll(cx)).unwrap_or_else(|error| {
            // Otherwise the server is ending, and nobody gets an answer any more.
            if error.is_panic() {
                tracing::error!(%error, "a call has ended without an answer");
            }
            Ok(Status::internal("the server has a fault; its log says more").into_http())
        }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.abort();
    }
}
