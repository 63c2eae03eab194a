//! The limits on a task's result, and the errors of setting it.

use crate::{codec::CodecError, task::Name};

/// The default limit of an encoded result: 16 MiB.
pub const DEFAULT_MAX_RESULT: usize = 16 * 1024 * 1024;

/// The limit of a result. Stored in the state of servers that set it.
pub(crate) struct MaxResult(pub(crate) usize);

/// A result is too large to be stored.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the result is {size} bytes, over the limit of {limit}: store large data elsewhere and return a reference, or raise the \
     limit with `ServerBuilder::max_result`"
)]
#[non_exhaustive]
pub struct ResultTooLarge {
    /// The size of the encoded result, in bytes.
    pub size: usize,
    /// The limit of this server, in bytes.
    pub limit: usize,
}

crate::debug_as_text!(ResultTooLarge, SetResultError, CompletionError);

/// A result could not be [set](crate::process::Context::set_result).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SetResultError {
    /// The task's type has an output, which is its result.
    #[error(
        "the result of `{event}` is its output: return it, or remove `output` from the task's type to set another result"
    )]
    HasOutput {
        /// The event of the task.
        event: Name,
    },
    /// The handler has already returned.
    #[error("the handler of `{event}` has returned: set the result before that")]
    TooLate {
        /// The event of the task.
        event: Name,
    },
    /// The codec of the payload cannot represent the value.
    #[error("could not encode the result")]
    Encode(#[source] CodecError),
    /// The encoded result is over the server's limit.
    #[error(transparent)]
    TooLarge(#[from] ResultTooLarge),
}

/// The outcome of an attempt cannot be recorded in a [transaction of the handler](crate::process::Context::completion).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum CompletionError {
    /// The attempt does not run on a server.
    #[error("the task has no lease: only an attempt that runs on a server can be completed")]
    NoLease,
    /// The output has another type than the output of the task.
    #[error(
        "the output of `{event}` is `{expected}`, and this one is `{found}`: complete the task with the value that its handler returns"
    )]
    OtherOutput {
        /// The event of the task.
        event: Name,
        /// The type of the task's output.
        expected: &'static str,
        /// The type of the value.
        found: &'static str,
    },
    /// The codec of the payload cannot represent the output.
    #[error("could not encode the output")]
    Encode(#[source] CodecError),
    /// The encoded output is over the server's limit.
    #[error(transparent)]
    TooLarge(#[from] ResultTooLarge),
}
