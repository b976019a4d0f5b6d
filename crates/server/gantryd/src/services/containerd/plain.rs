//! Errors without details. Clients of containerd (2.0 and later) take each for one more error of a kind that they do
//! not know, and add that to the message which their user sees.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

/// Where the details of a call's error are, in the head of an answer that has nothing else.
const DETAILS: &str = "grpc-status-details-bin";

type Answer = Result<http::Response<Body>, Infallible>;

/// A service whose errors are a code and a message.
#[derive(Clone)]
pub(super) struct Plain<S>(pub(super) S);

impl<S: NamedService> NamedService for Plain<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Plain<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.headers_mut().remove(DETAILS);
            Ok(answer)
        })
    }
}
