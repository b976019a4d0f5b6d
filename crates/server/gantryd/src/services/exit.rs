//! Ends of processes as numbers, which are the same in all APIs.

use gantry_api::EXIT_STATUS_UNKNOWN;
use gantry_domain::ExitStatus;

/// The exit code, or 128 and the number of the signal.
pub(super) fn status(status: ExitStatus) -> u32 {
    match status {
        ExitStatus::Code(code) => code.into(),
        ExitStatus::Signal(signal) => 128 + u32::from(signal),
        ExitStatus::Unknown => EXIT_STATUS_UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wire_knows_128_and_255() {
        assert_eq!(status(ExitStatus::Code(42)), 42);
        assert_eq!(status(ExitStatus::Signal(9)), 137);
        assert_eq!(status(ExitStatus::Unknown), 255);
    }
}
