//! What every gRPC service needs: requests are counted before they are read and handled beside the
//! threads of connections, a wrong field has one form, and health.

mod admission;
mod aside;
mod bad_field;
mod began;
mod caller;
mod code;
mod endless;
mod health;

pub(crate) use admission::{AdmissionLayer, Charge, Peer, Peers};
pub(crate) use aside::Aside;
pub(crate) use bad_field::BadField;
pub(crate) use caller::{caller, caller_began, follower, listing};
pub(crate) use code::code;
pub(crate) use endless::EndlessLayer;
pub(crate) use health::Health;
