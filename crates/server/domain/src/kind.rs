//! The kinds of errors, whatever the API and whatever part of the server: each surface maps a kind to a
//! code of its own.

/// What an error means for its caller. The names are those of gRPC's codes, whose meanings these have
/// (google/rpc/code.proto).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for is not there.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// The request is wrong, whatever the state of what it is about.
    InvalidArgument,
    /// The state of the container, of the host, of the runtime or of what is stored does not allow it.
    FailedPrecondition,
    /// What was asked for begins behind the end of what there is.
    OutOfRange,
    /// Something else is being done with the container; to be tried again.
    Aborted,
    /// The server does not implement it.
    Unimplemented,
    /// A bound of the server or of the host was reached.
    ResourceExhausted,
    /// It took too long.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// The server is stopping, or a shim does not answer.
    Unavailable,
    /// Stored data is damaged.
    DataLoss,
    /// The system or the server has failed.
    Internal,
}
