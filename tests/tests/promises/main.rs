//! What SPECIFICATION.md promises and no other test holds.

mod away;
mod callers;
mod client_restart;
mod costs;
mod descriptors;
mod exits;
mod few_descriptors;
mod files;
mod frozen;
mod hangs;
mod inherited;
mod large_configs;
mod last_words;
mod linger;
mod log;
mod made_with;
mod many_ends;
mod not_ours;
mod ready;
mod recycled_pid;
mod shared_cgroup;
mod shim_death;
mod signals;
mod state_directory;
mod stop;
mod unit;
mod unread;
mod upgrade;

#[path = "../variants/mod.rs"]
mod variants;
