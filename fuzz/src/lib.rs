//! The parts of gantryd that read what others wrote, taken out of it: it is a program, not a
//! library.
#![allow(dead_code, unused_imports, reason = "most of these modules is for the server only")]

mod bundle;
pub mod checks;
#[path = "../../crates/server/src/domain/mod.rs"]
mod domain;
mod events;
