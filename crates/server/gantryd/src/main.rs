//! gantryd: a gRPC-only container runtime service.

use std::process::ExitCode;

fn main() -> ExitCode {
    gantryd::run()
}
