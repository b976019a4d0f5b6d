//! Errors as answers to clients of containerd; for the supervisor's errors see `tasks/texts.rs`.

use gantry_content::ContentError;
use gantry_domain::Kind;
use gantry_events::TooLong;
use gantry_images::ImageError;
use gantry_registry::RegistryError;
use gantry_snapshots::SnapshotError;
use gantry_store::StoreError;
use tonic::{Code, Status};

use crate::rpc::code;

/// A field of a request that is wrong, which the log names. The message is containerd's, less its end.
pub(super) fn invalid(field: &str, problem: impl AsRef<str>) -> Status {
    let problem = problem.as_ref();
    tracing::info!(field, problem, "request refused");
    Status::invalid_argument(format!("{problem}: invalid argument"))
}

/// A container has no task.
pub(super) fn no_task(id: &str) -> Status {
    Status::not_found(format!("task {id} not found"))
}

/// A task has no such process.
pub(super) fn no_process(exec_id: &str) -> Status {
    Status::not_found(format!("process does not exist {exec_id}: not found"))
}

/// The answer for an error of the store, whose messages are containerd's.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn of_store(error: StoreError) -> Status {
    answer(error.kind(), error.to_string(), error.field())
}

/// The same of the content.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn of_content(error: ContentError) -> Status {
    answer(error.kind(), error.to_string(), error.field())
}

/// The same of the snapshots.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn of_snapshots(error: SnapshotError) -> Status {
    answer(error.kind(), error.to_string(), error.field())
}

/// The same of images.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn of_images(error: ImageError) -> Status {
    answer(error.kind(), error.to_string(), error.field())
}

/// The same of registries. As in containerd, most of what they refuse has no better code than that it has failed.
#[allow(clippy::needless_pass_by_value, reason = "for `map_err`")]
pub(super) fn of_registry(error: RegistryError) -> Status {
    let code = error.kind().map_or(Code::Unknown, code);
    let error = error.to_string();
    tracing::info!(?code, error, "request failed");
    Status::new(code, error)
}

/// In the words of containerd, which reports what it has tried.
pub(super) fn reported(what: &str, status: &Status) -> Status {
    Status::new(status.code(), format!("{what}: {}", status.message()))
}

fn answer(kind: Kind, message: String, field: Option<&str>) -> Status {
    let code = code(kind);
    tracing::info!(?code, field, error = message, "request failed");
    Status::new(code, message)
}

/// An event that a client publishes is too long.
pub(super) fn of_too_long(error: TooLong) -> Status {
    invalid("event", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_words_of_containerd() {
        let shown = |status: Status| (status.code(), status.message().to_owned());
        assert_eq!(
            shown(of_store(StoreError::NotFound("x".into()))),
            (Code::NotFound, "x: not found".to_owned())
        );
    }
}
