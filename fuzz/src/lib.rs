//! The parts of gantryd that read what others wrote, taken out of it: it is a program, not a
//! library.
#![allow(dead_code, reason = "most of these modules is of use to the server only")]

#[path = "../../crates/server/src/bundle.rs"]
mod bundle;
pub mod checks;
#[path = "../../crates/server/src/domain/mod.rs"]
mod domain;
mod events {
    #[path = "../../../crates/server/src/events/record.rs"]
    pub(crate) mod record;
}
