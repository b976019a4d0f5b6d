//! The services of containerd, called as its clients call them.

mod attach;
mod bed;
mod collection;
mod containers;
mod content;
mod diff;
mod events;
mod failpoints;
mod images;
mod introspection;
mod leases;
mod listing;
mod monitors;
mod namespaces;
mod repeated;
mod restart;
mod restart_monitor;
mod rootfs;
mod snapshots;
mod sockets;
mod tasks;
mod transfer;

use bed::{Bed, any, assert_refused, container, of};
