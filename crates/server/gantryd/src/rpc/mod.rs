//! What every gRPC service needs: permission, limits on requests, handlers on threads of their own, one form for a
//! wrong field, and health.

mod admission;
mod aside;
mod bad_field;
mod began;
mod caller;
mod calls;
mod code;
mod endless;
mod health;
mod idempotency;
mod permission;
mod trace;

pub(crate) use admission::{AdmissionLayer, Charge, Peer, Peers};
pub(crate) use aside::Aside;
pub(crate) use bad_field::BadField;
pub(crate) use caller::{caller, caller_began, follower, listing, receives};
pub(crate) use calls::{Calls, CallsLayer, MeasuredCalls};
pub(crate) use code::{code, is_fault, name_of_code};
pub(crate) use endless::EndlessLayer;
pub(crate) use health::Health;
pub(crate) use idempotency::{IDEMPOTENCY_METADATA, idempotency};
pub(crate) use permission::{PermissionLayer, Subject, paths};
pub(crate) use trace::TraceLayer;
