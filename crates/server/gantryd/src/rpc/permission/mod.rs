//! Refuses calls that the client's role does not allow, before any service sees them, and has those that change
//! something noted in the log ([`audit`]).

mod audit;
mod table;

use std::{
    future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

pub(crate) use audit::Subject;
use audit::{Record, noted};
use futures_util::future::Either;
pub(super) use table::known;
pub(crate) use table::paths;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::Peer;
use crate::access::{Access, Identity, Role};

/// Has the role of a call's client checked.
#[derive(Clone)]
pub(crate) struct PermissionLayer(Access);

impl PermissionLayer {
    pub(crate) fn new(access: Access) -> Self {
        Self(access)
    }
}

impl<S> Layer<S> for PermissionLayer {
    type Service = Permission<S>;

    fn layer(&self, service: S) -> Permission<S> {
        Permission { service, access: self.0.clone() }
    }
}

/// A service that only gets the calls that it may answer.
#[derive(Clone)]
pub(crate) struct Permission<S> {
    service: S,
    access: Access,
}

/// A call that is noted, or refused.
type Other<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Permission<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Other<S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let Some((call, needed)) = table::needed(request.uri().path()) else {
            // As for a call of a service that is not there.
            return answered(Status::unimplemented(""));
        };
        let who = request.extensions().get::<Peer>().map(|peer| Arc::clone(&peer.who));
        let who = who.unwrap_or_default();
        let role = self.access.role(&who);
        let allowed = role.is_some_and(|role| role >= needed);
        let record = (needed > Role::Observer && Record::is_wanted(allowed))
            .then(|| Record::new(Arc::clone(&who), role, call, &mut request));
        if !allowed {
            let refused = refusal(call, needed, &who, role);
            if let Some(mut record) = record {
                record.end(refused.code());
            }
            return answered(refused);
        }
        // Of an admin, a request is as it came.
        if let Some(role) = role.filter(|role| *role < Role::Admin) {
            request.extensions_mut().insert(role);
        }
        match record {
            None => Either::Left(self.service.call(request)),
            Some(record) => Either::Right(Box::pin(noted(self.service.call(request), record))),
        }
    }
}

fn answered<F, E: Send + 'static>(status: Status) -> Either<F, Other<E>> {
    Either::Right(Box::pin(future::ready(Ok(status.into_http()))))
}

fn refusal(call: &str, needed: Role, who: &Identity, role: Option<Role>) -> Status {
    let user = who.user.map_or_else(|| "the client".to_owned(), |uid| format!("user {uid}"));
    let has = role.map_or_else(|| "no role".to_owned(), |role| format!("the role {role}"));
    Status::permission_denied(format!("{call} needs the role {needed}, and {user} has {has} here"))
}

#[cfg(test)]
mod tests;
