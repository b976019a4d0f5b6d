//! What the kernel offers and the standard library does not: pidfds, child reaping, sockets that
//! pass descriptors, and what the error of a system call means. The only home of `unsafe` in the server.

mod allocator;
mod async_fd;
mod death;
mod descriptors;
mod inherited;
mod pidfd;
mod reaper;
mod seqpacket;
mod signals;
mod trouble;

pub(crate) use allocator::{keep_memory_small, load_has_fallen};
pub(crate) use async_fd::watch;
pub(crate) use death::MortalCommand;
pub(crate) use descriptors::{closed_first, leaves_room};
pub(crate) use inherited::{oom_score_adj, raise_file_limit, restore_file_limit};
pub(crate) use pidfd::{
    PidFd, is_descendant, is_living, is_namespace_init, parent, process_start_time, zombie_status,
};
pub(crate) use reaper::{Adoption, Reaper};
pub(crate) use seqpacket::SeqPacket;
pub(crate) use signals::reset_signals;
pub(crate) use trouble::{Backoff, Trouble, if_there, until_answered};
