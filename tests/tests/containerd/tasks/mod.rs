//! Tasks: how they are created, started, waited for and deleted, and what is done with them meanwhile.

mod boot;
mod checkpoint;
mod checkpoint_content;
mod control;
mod directory;
mod early;
mod errors;
mod execs;
mod killed_create;
mod killed_start;
mod lifecycle;
mod restart;
mod resubscribe;
mod streams;
mod task;
mod together;
mod user_namespace;

pub(crate) use checkpoint::{RESTORE, make_image};
use task::request;
pub(crate) use task::{NewTask, Task, finish};
