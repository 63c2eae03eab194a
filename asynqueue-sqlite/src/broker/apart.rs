//! Calls that span queues. Where the rows of one queue are damaged, the others get their results all the same.

use asynqueue_core::broker::{BrokerError, Each};

/// Calls with all items together. If that fails permanently, calls with each of them alone.
pub(super) async fn together_or_apart<I: Clone, T, F>(
    items: &[I],
    call: impl Fn(Vec<I>) -> F,
) -> Result<Each<T>, BrokerError>
where
    F: Future<Output = Result<Each<T>, BrokerError>>,
{
    let together = call(items.to_vec()).await;
    if items.len() < 2 || !matches!(together, Err(BrokerError::Protocol(_))) {
        return together;
    }
    let mut results = Vec::with_capacity(items.len());
    for item in items {
        results.push(only(call(vec![item.clone()]).await));
    }
    Ok(results)
}

/// The result of a call with one item.
pub(super) fn only<T>(results: Result<Each<T>, BrokerError>) -> Result<T, BrokerError> {
    let missing = || BrokerError::protocol("a call has no result");
    results?.pop().unwrap_or_else(|| Err(missing()))
}
