//! Calls of other services that do not end by themselves. A server that stops does not wait for them,
//! and cuts them like those that follow events.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use crate::connection::{Connections, Follower};

/// A write of content ends when its client has no more data, a watch of health with its client, reflection when its
/// client asks no more, a wait and an attachment when the process ends, a stream with the call that uses it, and that, a transfer, when the
/// other end of it has no more data or takes no more.
const ENDLESS: [&str; 11] = [
    "/containerd.services.content.v1.Content/Write",
    "/containerd.services.events.v1.Events/Subscribe",
    "/containerd.services.streaming.v1.Streaming/Stream",
    "/containerd.services.tasks.v1.Tasks/Wait",
    "/containerd.services.transfer.v1.Transfer/Transfer",
    "/gantry.v1.ContainerService/Attach",
    "/gantry.v1.ContainerService/Wait",
    "/gantry.v1.ContainerService/Watch",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Counts calls that do not end by themselves.
#[derive(Clone)]
pub(crate) struct EndlessLayer(Connections);

impl EndlessLayer {
    pub(crate) fn new(connections: Connections) -> Self {
        Self(connections)
    }
}

impl<S> Layer<S> for EndlessLayer {
    type Service = Endless<S>;

    fn layer(&self, service: S) -> Endless<S> {
        Endless { service, connections: self.0.clone() }
    }
}

/// A service whose endless calls are counted.
#[derive(Clone)]
pub(crate) struct Endless<S> {
    service: S,
    connections: Connections,
}

impl<S> Service<http::Request<Body>> for Endless<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Call<S::Future> {
        let is_endless = ENDLESS.contains(&request.uri().path());
        let follower = is_endless.then(|| self.connections.follower());
        Call { answer: Box::pin(self.service.call(request)), follower }
    }
}

/// A call without an answer yet.
pub(crate) struct Call<F> {
    answer: Pin<Box<F>>,
    follower: Option<Follower>,
}

impl<F, E> Future for Call<F>
where
    F: Future<Output = Result<http::Response<Body>, E>>,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let answer = ready!(self.answer.as_mut().poll(cx));
        Poll::Ready(match self.follower.take() {
            Some(follower) => answer
                .map(|answer| answer.map(|body| Body::new(Counted { body, _follower: follower }))),
            None => answer,
        })
    }
}

/// An answer that is counted until it ends.
struct Counted {
    body: Body,
    _follower: Follower,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
