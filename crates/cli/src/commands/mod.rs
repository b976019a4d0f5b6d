//! The subcommands, one file each.

pub(crate) mod attach;
pub(crate) mod checkpoint;
pub(crate) mod completion;
pub(crate) mod content;
pub(crate) mod control;
pub(crate) mod events;
pub(crate) mod exec;
mod exec_task;
pub(crate) mod export;
pub(crate) mod images;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod logs;
pub(crate) mod ps;
pub(crate) mod pull;
pub(crate) mod restore;
pub(crate) mod rm;
pub(crate) mod run;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod top;
pub(crate) mod update;
pub(crate) mod version;
pub(crate) mod wait;
