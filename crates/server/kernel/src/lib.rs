//! What the kernel offers and the standard library does not: pidfds, child reaping, sockets that
//! pass descriptors, and what the error of a system call means. The only home of `unsafe` in the server.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod allocator;
mod arguments;
mod async_fd;
mod boot;
pub mod cgroup;
mod descriptors;
mod inherited;
mod mortal_command;
pub mod mount;
pub mod net_dev;
mod peer;
mod pidfd;
mod program;
mod reaper;
mod sealed;
mod seqpacket;
mod signals;
#[cfg(feature = "testing")]
pub mod small_disk;
mod streams;
mod trouble;
mod writeback;

pub use allocator::{keep_memory_small, load_has_fallen};
pub use arguments::with_argument;
pub use async_fd::watch;
pub use boot::{BOOT_ID, TICK, boot_id, ticks_since_boot};
pub use descriptors::{closed_first, leaves_room};
pub use inherited::{given_oom_score_adj, oom_score_adj, raise_file_limit, restore_file_limit};
pub use mortal_command::MortalCommand;
pub use peer::peer_groups;
pub use pidfd::{
    PidFd, is_descendant, is_exiting, is_living, is_namespace_init, parent, process_start_time,
    still_lives, zombie_status,
};
pub use program::Program;
pub use reaper::{Adoption, Reaper};
pub use sealed::sealed_copy;
pub use seqpacket::SeqPacket;
pub use signals::reset_signals;
pub use streams::has_streams;
pub use trouble::{Backoff, Trouble, if_there, until_answered};
pub use writeback::begin_writeback;
