//! What a request costs is computed while its bytes arrive, and limited before they are decoded: for each field
//! ([`bounds`]), for a connection and for the whole server ([`account`]). The decoded request
//! counts until the last byte of the answer is passed to the kernel ([`answer`]).

mod account;
mod answer;
mod body;
mod bounds;
mod scan;
mod shape;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

pub(crate) use account::Charge;
use account::{Account, Budget};
use answer::Paced;
use body::Weighed;
use gantry_kernel::load_has_fallen;
use gantry_supervisor::Caller;
use shape::{Shape, ShapeError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body, server::NamedService};
use tower::{Layer, Service};

use super::Subject;
use crate::access::Identity;

/// Lists of all containers that are made for one connection at once; further ones wait.
const LISTINGS: usize = 16;

/// Event streams of one connection. Each takes some 100 KiB while it is not read.
const FOLLOWERS: usize = 256;

/// Gives each connection an account and a number.
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
    pub(crate) who: Arc<Identity>,
    listings: Arc<Semaphore>,
    followers: Arc<Semaphore>,
}

impl Peer {
    /// Waits until another list of all containers may be made for it.
    pub(crate) async fn listing(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.listings).acquire_owned().await.ok()
    }

    /// One more event stream for it.
    pub(crate) fn follower(&self) -> Result<OwnedSemaphorePermit, Status> {
        Arc::clone(&self.followers).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("this connection has {FOLLOWERS} event streams"))
        })
    }
}

impl Peers {
    /// Bytes that requests and answers under way are charged with.
    pub(crate) fn used(&self) -> usize {
        self.budget.used()
    }

    /// A connection that was just accepted, and who has made it.
    pub(crate) fn next(&self, who: Identity) -> Peer {
        let caller = Caller(self.last.fetch_add(1, Ordering::Relaxed) + 1);
        Peer {
            account: self.budget.account(),
            caller,
            who: Arc::new(who),
            listings: Arc::new(Semaphore::new(LISTINGS)),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
        }
    }
}

/// Has the cost of requests checked before a service gets them.
#[derive(Debug, Clone)]
pub(crate) struct AdmissionLayer {
    shapes: Arc<HashMap<String, Arc<Shape>>>,
}

impl AdmissionLayer {
    /// For contracts, each an encoded `FileDescriptorSet`.
    pub(crate) fn new(contracts: &[&[u8]]) -> Result<Self, ShapeError> {
        let mut shapes = HashMap::new();
        for descriptors in contracts {
            shapes.extend(shape::all(descriptors)?);
        }
        Ok(Self { shapes: Arc::new(shapes) })
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, service: S) -> Admission<S> {
        Admission { service, shapes: Arc::clone(&self.shapes) }
    }
}

/// A service whose requests are checked.
#[derive(Debug, Clone)]
pub(crate) struct Admission<S> {
    service: S,
    shapes: Arc<HashMap<String, Arc<Shape>>>,
}

impl<S: NamedService> NamedService for Admission<S> {
    const NAME: &'static str = S::NAME;
}

type Answer = Result<http::Response<Body>, Infallible>;

impl<S> Service<http::Request<Body>> for Admission<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Call<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Call<S::Future> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Call {
                answer: Box::pin(self.service.call(request)),
                charge: None,
                paced: false,
            };
        };
        let charge = Charge::new(peer.account.clone());
        let shape = self.shapes.get(request.uri().path()).cloned();
        let paced = shape.as_ref().is_some_and(|shape| shape.is_answered_by_stream);
        let held = Arc::clone(&charge);
        request.extensions_mut().insert(Arc::clone(&charge));
        let subject = request.extensions().get::<Subject>().cloned();
        let request = request.map(|body| Body::new(Weighed::new(body, shape, held, subject)));
        Call { answer: Box::pin(self.service.call(request)), charge: Some(charge), paced }
    }
}

/// A call under way. The memory of a request that has one answer is taken until that is written, and
/// of others until the answer begins.
pub(crate) struct Call<F> {
    answer: Pin<Box<F>>,
    charge: Option<Arc<Charge>>,
    paced: bool,
}

impl<F: Future<Output = Answer>> Future for Call<F> {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = ready!(self.answer.as_mut().poll(cx));
        load_has_fallen();
        let Some(charge) = self.charge.take() else { return Poll::Ready(answer) };
        let paced = self.paced;
        Poll::Ready(answer.map(|response| match paced {
            true => response.map(|body| Body::new(Paced::new(body))),
            false => answer::charged(response, charge, cx),
        }))
    }
}
