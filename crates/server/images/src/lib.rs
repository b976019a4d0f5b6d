//! What images consist of: documents that refer to each other by digest, platforms, and names; and archives of
//! images, which are read into content and made of it.
//!
//! # Strangers' documents
//! A document is read whole, so its length is bounded. What refers to what has no cycle, as nothing can have the digest of
//! what refers to it, but many ways may lead to one document; whoever follows references goes to each digest once.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod chain;
mod document;
mod error;
mod export;
mod filter;
mod import;
pub mod label;
pub mod media_type;
pub mod name;
mod platform;
mod read;
mod walk;

pub use chain::chain_ids;
pub use document::{
    Config, Descriptor, Index, MAX_DOCUMENT, MAX_PARTS, Manifest, RootFs, children,
};
pub use error::ImageError;
pub use export::{ArchiveReader, Export};
pub use filter::{Filter, reference_labels};
pub use import::{Import, Incoming, Pieces, incoming};
pub use platform::{Platform, Platforms};
pub use read::read_document;
pub use walk::Walk;
