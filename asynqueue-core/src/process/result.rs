//! The result that a process sets, and why one cannot be set.

use crate::{codec::CodecError, task::Name};

/// Encoded results larger than this are refused unless the server is configured otherwise: 16 MiB.
pub const DEFAULT_MAX_RESULT: usize = 16 * 1024 * 1024;

/// The largest result. In the state of servers that set it.
pub(crate) struct MaxResult(pub(crate) usize);

/// A result that is too large to be kept.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the result is {size} bytes, and this server takes up to {limit}: keep large data elsewhere and return a reference, or \
     raise the limit with `ServerBuilder::max_result`"
)]
#[non_exhaustive]
pub struct ResultTooLarge {
    /// The encoded result's size in bytes.
    pub size: usize,
    /// The largest size taken.
    pub limit: usize,
}

crate::debug_as_text!(ResultTooLarge, SetResultError);

/// A result that was not [set](crate::process::Context::set_result).
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SetResultError {
    /// The task's type has an output, which is its result.
    #[error(
        "the result of `{event}` is its output: return it, or take `output` off the task's type to set another result"
    )]
    HasOutput {
        /// The event.
        event: Name,
    },
    /// The process has returned.
    #[error("the process of `{event}` has returned: set its result before that")]
    TooLate {
        /// The event.
        event: Name,
    },
    /// The codec of the payload cannot represent it.
    #[error("the result cannot be encoded")]
    Encode(#[source] CodecError),
    /// It is too large.
    #[error(transparent)]
    TooLarge(#[from] ResultTooLarge),
}
