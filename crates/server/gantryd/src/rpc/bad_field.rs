//! A field of a request that is wrong: INVALID_ARGUMENT, with the field in the details.

use std::borrow::Cow;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A field of a request that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub(crate) struct BadField {
    pub(crate) field: Cow<'static, str>,
    pub(crate) problem: String,
}

impl BadField {
    pub(crate) fn new(field: impl Into<Cow<'static, str>>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

impl From<BadField> for Status {
    fn from(bad: BadField) -> Self {
        let details = ErrorDetails::with_bad_request_violation(&*bad.field, bad.problem.clone());
        Self::with_error_details(Code::InvalidArgument, bad.to_string(), details)
    }
}
