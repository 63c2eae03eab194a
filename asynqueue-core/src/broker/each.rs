//! Results of calls that span several queues: one per queue, so that a failing queue does not hide the results of the
//! others.

use super::BrokerError;

/// One result for each queue or item of the call, in the order given.
///
/// In some stores a single queue can fail: its part of the storage is unavailable, or its stored data is damaged. The
/// results of the other queues stay valid. A store that keeps all queues in one place returns the same kind of result
/// for all of them.
pub type Each<T> = Vec<Result<T, BrokerError>>;

/// All results of a call, if a caller needs all of them or none.
///
/// # Errors
///
/// The error of the call, or the first error among its results.
pub fn all_of<T>(results: Result<Each<T>, BrokerError>) -> Result<Vec<T>, BrokerError> {
    results?.into_iter().collect()
}
