//! Answers of calls that span several queues: one for each, so that a fault of one queue hides no other's answer.

use super::BrokerError;

/// An answer for each queue or item that was asked for, in that order.
///
/// A store keeps queues where one can fail by itself: its part of the storage is away, or what is stored of it is damaged. The
/// others' answers count all the same. A store that keeps all queues in one place answers all of them alike.
pub type Each<T> = Vec<Result<T, BrokerError>>;

/// All answers of a call, for a caller that needs all of them or none.
///
/// # Errors
///
/// The error of the whole call, or the first of an answer.
pub fn all_of<T>(answers: Result<Each<T>, BrokerError>) -> Result<Vec<T>, BrokerError> {
    answers?.into_iter().collect()
}
