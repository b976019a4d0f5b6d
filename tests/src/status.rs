//! Checks of errors.

use tonic::{Code, Status};

use crate::programs;

/// The code and all phrases that an error must have; case does not matter, as it does not to a
/// daemon that looks for them. The original containerd always answers UNKNOWN, so only its
/// phrases are checked.
///
/// # Panics
/// When it has not.
#[track_caller]
pub fn assert_error<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, phrases: &[&str]) {
    let error = result.expect_err("an error");
    if !programs::is_incumbent() {
        assert_eq!(error.code(), code, "{error:?}");
    }
    let message = error.message().to_lowercase();
    for phrase in phrases {
        assert!(message.contains(&phrase.to_lowercase()), "no {phrase:?} in {error:?}");
    }
}
