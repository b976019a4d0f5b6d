//! Layers of images: applied to directories, and made of what differs between two of them. See `docs/containerd.md` for
//! what callers get.
//!
//! # Applying
//! ```text
//! layer -> thread: read -> thread: decompress -> caller's thread: read the archive, make files -> thread: SHA-256
//!           ^-- buffers go --'     ^------------------------ buffers go round --------------------------'
//! ```
//! Nothing that an archive has leads out of the directory: names are opened beneath it (openat2(2)), `..` and
//! hard links that lead out are refused by the entry's name, and links that are absolute begin at the directory, as they will for
//! a container. A link that goes up beyond it is refused when an entry is below that.
//!
//! The memory is that of the buffers and the decoder (for zstd what the frame asks for, at most 128 MiB), the times of
//! directories, and eight bytes a file where names that are gone are removed, and not hidden.
//!
//! # Comparing
//! Two trees are walked together in the order of names. An upper directory of an overlay whose lower layers are the other tree is
//! read alone.
//!
//! # Other crates
//! - `tar` knows where the fields of headers are. The rest is here: it cuts values of PAX records off at a newline, which
//!   binary attributes have; it ignores the times and owners of PAX, and its sparse formats; it copies data once more; and its own
//!   unpacking has no file descriptors to begin from.
//! - `flate2`, with the decoder of zlib-rs: one thread, one member after the other.
//! - `zstd` wraps the C library.

// A write to standard output or error can fail, or wait for ever, and these macros panic.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test fails by panicking"))]

mod apply;
mod archive;
mod bounds;
mod cancel;
mod compare;
mod compression;
mod error;
mod files;
mod mounts;
mod pipeline;

pub use apply::{ApplyOptions, Overlay, Target, apply};
pub use archive::ArchiveError;
pub use bounds::Bounds;
pub use cancel::{Cancel, CancelOnDrop};
pub use compare::{DiffOptions, diff};
pub use compression::{Compression, Packing};
pub use error::DiffError;
pub use files::{Files, Found};
pub use mounts::{apply_to_mounts, diff_mounts};
pub use pipeline::Unpacked;
