//! The `gantry` command against a real server.

mod attach;
mod bed;
mod content;
mod leaving;
mod run;

use bed::{Bed, json_lines, output, stderr, stdout, succeeds, with_input};
