//! Queries for pages and the API. Nothing here depends on HTML, JSON or requests.

pub(super) mod audit;
pub(super) mod failures;
pub(super) mod groups;
pub(super) mod history;
pub(super) mod queue;
pub(super) mod schedules;
mod suggestions;

/// The maximum number of concurrent calls to the broker.
const AT_A_TIME: usize = 8;
