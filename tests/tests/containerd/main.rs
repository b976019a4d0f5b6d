//! The services of containerd, called as its clients call them.

mod bed;
mod containers;
mod events;
mod introspection;
mod leases;
mod listing;
mod namespaces;
mod restart;
mod tasks;
mod sockets;

use bed::{Bed, any, assert_refused, container, of};
