//! `gantry.v1`, the contract of proto/gantry/v1: containers of all namespaces, for monitors and for those who wait.

mod attach;
mod measures;
mod messages;
mod parse;
mod server;
mod service;
mod watch;

pub(crate) use server::Server;
pub(crate) use service::Containers;
