//! Why a move stopped.

use std::time::Duration;

use crate::broker::BrokerError;

/// Why a move stopped. It resumes when it is started again, and nothing is lost or doubled in between.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum TransferError {
    /// The source failed.
    #[error("the source of the move: {0}")]
    Source(#[source] BrokerError),
    /// The target failed.
    #[error("the target of the move: {0}")]
    Target(#[source] BrokerError),
    /// Source and target are the same store.
    #[error("source and target are the same store: expected two different ones")]
    SameStore,
    /// The source has a move to another store that was not finished.
    #[error(
        "the source has an unfinished move to another store: finish that move first, with the same target"
    )]
    Unfinished,
    /// Another process is moving the tasks of the source.
    #[error("another process is moving the tasks of the source: wait until it has ended")]
    Busy,
    /// A record of the move is undecodable.
    #[error(
        "the record `{name}` of the move is undecodable: a later version may have written it; use that version"
    )]
    Undecodable {
        /// The name of the record.
        name: String,
    },
}

crate::debug_as_text!(TransferError);

/// How long a process has the source to itself without renewing its claim.
pub(super) const CLAIM: Duration = Duration::from_secs(3);
