//! Figures over time, which a store adds up: what happened in each minute, hour and day.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;

use crate::task::{Name, Timestamp};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A kind of [`Point`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Series {
    /// The attempts of each event, by the minute. The group is the queue, and the key is the event.
    EventMinutes,
    /// The attempts of each event, by the hour.
    EventHours,
    /// The attempts of each event, by the day.
    EventDays,
    /// The attempts of each queue, by the minute. The group is the queue, and the key is empty.
    QueueMinutes,
    /// The failed attempts of each cause, by the minute. The group is the queue, and the key is the cause.
    FailureMinutes,
    /// The failed attempts of each cause, by the hour.
    FailureHours,
    /// The failed attempts of each cause, by the day.
    FailureDays,
    /// What people and programs changed, by the hour. The group is the queue or schedule entry, and the key is unique.
    Audit,
}

impl Series {
    /// All series.
    pub const ALL: [Self; 8] = [
        Self::EventMinutes,
        Self::EventHours,
        Self::EventDays,
        Self::QueueMinutes,
        Self::FailureMinutes,
        Self::FailureHours,
        Self::FailureDays,
        Self::Audit,
    ];

    /// The name that stores use, such as `event_minutes`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EventMinutes => "event_minutes",
            Self::EventHours => "event_hours",
            Self::EventDays => "event_days",
            Self::QueueMinutes => "queue_minutes",
            Self::FailureMinutes => "failure_minutes",
            Self::FailureHours => "failure_hours",
            Self::FailureDays => "failure_days",
            Self::Audit => "audit",
        }
    }

    /// The span of time of one point.
    pub fn span(self) -> Duration {
        match self {
            Self::EventMinutes | Self::QueueMinutes | Self::FailureMinutes => MINUTE,
            Self::EventHours | Self::FailureHours | Self::Audit => HOUR,
            Self::EventDays | Self::FailureDays => DAY,
        }
    }

    /// How long a point is kept after its start: 8 hours by the minute, otherwise 90 days.
    pub fn kept(self) -> Duration {
        match self {
            Self::EventMinutes | Self::QueueMinutes | Self::FailureMinutes => 8 * HOUR,
            _ => 90 * DAY,
        }
    }

    /// The most keys of a group in one span. Points with further keys are added to the [rest](Point::REST).
    pub fn max_keys(self) -> usize {
        match self {
            Self::EventMinutes | Self::EventHours | Self::EventDays => 1_000,
            Self::QueueMinutes => 1,
            Self::FailureMinutes => 50,
            Self::FailureHours | Self::FailureDays => 100,
            Self::Audit => 100_000,
        }
    }

    /// The start of the span that includes this time. Days are those of UTC.
    pub fn start_of(self, at: Timestamp) -> Timestamp {
        let span = self.span().as_millis() as u64;
        Timestamp::from_millis(at.as_millis() / span * span)
    }

    /// The earliest start of a point that is still kept.
    pub fn kept_since(self, now: Timestamp) -> Timestamp {
        now - self.kept()
    }
}

/// The figures of one key in one span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// The series.
    pub series: Series,
    /// The [start](Series::start_of) of the span.
    pub at: Timestamp,
    /// What the number of keys is limited by.
    pub group: Name,
    /// What the figures are about.
    pub key: Name,
    /// Added to the figures that are stored.
    pub counts: Counts,
    /// Kept as the first point of this key in this span has it.
    pub note: Bytes,
}

impl Point {
    /// The key of all figures beyond [`Series::max_keys`]. Its note is empty.
    pub const REST: Name = Name::from_static("");

    /// The most points in one call.
    pub const MAX_CALL: usize = 1_000;
}

/// Numbers by slot. The meaning of a slot depends on the series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<u8, u64>);

impl Counts {
    /// Adds to the number of a slot.
    pub fn add(&mut self, slot: u8, n: u64) {
        if n > 0 {
            let sum = self.0.entry(slot).or_default();
            // The largest number that every store can hold exactly.
            *sum = sum.saturating_add(n).min(1 << 53);
        }
    }

    /// Adds all numbers of others.
    pub fn merge(&mut self, others: &Self) {
        for (slot, n) in others.iter() {
            self.add(slot, n);
        }
    }

    /// The number of a slot. 0 if nothing was added.
    pub fn get(&self, slot: u8) -> u64 {
        self.0.get(&slot).copied().unwrap_or_default()
    }

    /// The numbers above 0, by slot.
    pub fn iter(&self) -> impl Iterator<Item = (u8, u64)> {
        self.0.iter().map(|(slot, n)| (*slot, *n))
    }
}

impl FromIterator<(u8, u64)> for Counts {
    fn from_iter<I: IntoIterator<Item = (u8, u64)>>(numbers: I) -> Self {
        let mut counts = Self::default();
        for (slot, n) in numbers {
            counts.add(slot, n);
        }
        counts
    }
}

/// The points to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointQuery {
    /// The series.
    pub series: Series,
    /// The earliest start of a point.
    pub from: Timestamp,
    /// Points start before this time.
    pub until: Timestamp,
    /// Only those of this group. `None`: of all.
    pub group: Option<Name>,
    /// Only those of this key. `None`: of all.
    pub key: Option<Name>,
}

impl PointQuery {
    /// Whether it asks for points of this group and key.
    pub fn includes(&self, group: &Name, key: &Name) -> bool {
        self.group.as_ref().is_none_or(|wanted| wanted == group)
            && self.key.as_ref().is_none_or(|wanted| wanted == key)
    }

    /// The points of a series from the span that includes `from`, until now.
    pub fn since(series: Series, from: Timestamp) -> Self {
        Self {
            series,
            from: series.start_of(from),
            until: Timestamp::MAX,
            group: None,
            key: None,
        }
    }
}
