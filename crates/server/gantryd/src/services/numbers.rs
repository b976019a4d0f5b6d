//! Numbers in requests, checked once.

use crate::rpc::BadField;

/// A signal's number, see signal(7), or 0, which asks whether the process lives, see kill(2).
pub(super) fn signal(signal: u32) -> Result<i32, BadField> {
    match i32::try_from(signal) {
        Ok(number @ 0..=64) => Ok(number),
        _ => Err(BadField::new("signal", format!("must be 0 to 64, is {signal}"))),
    }
}

/// A width or a height of a terminal.
pub(super) fn cells(field: &'static str, cells: u32) -> Result<u16, BadField> {
    u16::try_from(cells)
        .map_err(|_| BadField::new(field, format!("must be less than 65536, is {cells}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_those_of_linux() {
        assert!(signal(65).is_err() && signal(u32::MAX).is_err());
        assert_eq!((signal(0).unwrap(), signal(64).unwrap()), (0, 64));
    }
}
