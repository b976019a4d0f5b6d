//! The `gantry` command against a real server.

mod attach;
mod bed;
mod content;
mod image;
mod images;
mod leaving;
mod logs;
mod namespaced;
mod options;
mod registry;
mod run;
mod run_image;
mod system;
mod transfer;
mod watching;

use bed::{Bed, json_lines, output, stderr, stdout, succeeds, with_input};
