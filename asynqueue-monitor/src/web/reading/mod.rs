//! What is read of a broker for pages and the API, before it is written: nothing here knows of HTML, JSON or requests.

pub(super) mod groups;
pub(super) mod history;
pub(super) mod queue;
pub(super) mod schedules;

/// How many calls of the broker are made at a time.
const AT_A_TIME: usize = 8;
