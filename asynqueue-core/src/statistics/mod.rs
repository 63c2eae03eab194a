//! Statistics of attempts by event: what servers count, and how it is read.
//!
//! Each server counts in memory and adds the figures to the broker every ten seconds, by the minute, the hour and the
//! day. A server that is killed loses the figures of up to ten seconds, and never a task.

mod collect;
mod events;
mod histogram;
mod span;

pub(crate) use self::collect::{Collector, Started};
pub use self::{
    events::EventStats,
    histogram::Histogram,
    span::{InvalidSpan, Span},
};
use crate::broker::Series;

/// The series of events: by the minute, the hour and the day.
pub(crate) const SERIES: [Series; 3] =
    [Series::EventMinutes, Series::EventHours, Series::EventDays];

/// The slots of [counts](crate::broker::Counts) in the series of events.
mod slot {
    pub(super) const STARTED: u8 = 0;
    pub(super) const SUCCEEDED: u8 = 1;
    pub(super) const FAILED: u8 = 2;
    pub(super) const ARCHIVED: u8 = 3;
    pub(super) const LOST: u8 = 4;
    /// How many of them there are.
    pub(super) const OUTCOMES: usize = 5;
    /// The first bucket of the running times.
    pub(super) const RUNNING: u8 = 16;
    /// The first bucket of the waiting times.
    pub(super) const WAITING: u8 = 96;
}
