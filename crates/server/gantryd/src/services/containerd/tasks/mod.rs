//! `containerd.services.tasks.v1.Tasks`: what runs of a container.
//!
//! A container's metadata is looked for before its task, as in containerd: a task whose container is not
//! there is not found. Errors are [`texts`].

mod checkpoint;
mod checkpoint_content;
mod create;
mod json;
mod options;
mod restarted;
mod service;
mod stdio;
mod texts;
mod untrusted;
mod usage;
mod view;

pub(super) use options::asked_of;
pub(super) use restarted::restarted;
pub(super) use service::Tasks;
pub(super) use stdio::SCHEMES;
pub(crate) use untrusted::check as check_any;
