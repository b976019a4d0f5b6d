//! What a request costs is known while its bytes arrive, and limited then: before anything is made
//! of them, for each field ([`bounds`]), for a connection and for the whole server ([`account`]).

mod account;
mod body;
mod bounds;
mod scan;
mod shape;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use account::{Account, Budget, Charge};
use body::Weighed;
use shape::{Shape, ShapeError};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{supervisor::Caller, sys::load_has_fallen};

/// Gives each connection an account and a name.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    budget: Budget,
    last: AtomicU64,
}

/// Who is at the other end of a connection; an extension of each of its requests.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    account: Account,
    pub(crate) caller: Caller,
}

impl Peers {
    /// A connection that was just accepted.
    pub(crate) fn next(&self) -> Peer {
        let caller = Caller(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        Peer { account: self.budget.account(), caller }
    }
}

/// Has requests weighed before a service gets them.
#[derive(Debug, Clone)]
pub(crate) struct AdmissionLayer {
    shapes: Arc<HashMap<String, Arc<Shape>>>,
}

impl AdmissionLayer {
    /// For the contract of `descriptors`, an encoded `FileDescriptorSet`.
    pub(crate) fn new(descriptors: &[u8]) -> Result<Self, ShapeError> {
        Ok(Self { shapes: Arc::new(shape::all(descriptors)?) })
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, service: S) -> Admission<S> {
        Admission { service, shapes: Arc::clone(&self.shapes) }
    }
}

/// A service whose requests are weighed.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    service: S,
    shapes: Arc<HashMap<String, Arc<Shape>>>,
}

impl<S> Service<http::Request<Body>> for Admission<S>
where
    S: Service<http::Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Call<S::Future> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Call { answer: Box::pin(self.service.call(request)), charge: None };
        };
        let charge = Charge::new(peer.account.clone());
        let shape = self.shapes.get(request.uri().path()).cloned();
        let held = Arc::clone(&charge);
        let request = request.map(|body| Body::new(Weighed::new(body, shape, held)));
        Call { answer: Box::pin(self.service.call(request)), charge: Some(charge) }
    }
}

/// A call under way: its request's memory is taken until there is an answer.
pub(crate) struct Call<F> {
    answer: Pin<Box<F>>,
    charge: Option<Arc<Charge>>,
}

impl<F: Future> Future for Call<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let answer = ready!(self.answer.as_mut().poll(cx));
        self.charge = None;
        load_has_fallen();
        Poll::Ready(answer)
    }
}
