//! Statistics by event.

use std::collections::{BTreeMap, BTreeSet};

use super::Inspector;
use crate::{
    broker::{BrokerError, Point, PointQuery, Series},
    statistics::{EventStats, SERIES, Span},
    task::{Name, Timestamp},
};

/// The attempts of a queue or an event in each time, oldest first.
pub type Course = Vec<(Timestamp, EventStats)>;

impl Inspector {
    /// The attempts of each event in a span of time, by event; those of a queue, if one is given. The event with an empty
    /// name has all those beyond the first 1,000 events of a queue.
    ///
    /// A span of up to an hour counts whole minutes, one of up to a day whole hours, and a longer one whole days of UTC.
    /// Servers add their figures every ten seconds.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn event_stats(
        &self,
        queue: Option<&Name>,
        span: Span,
    ) -> Result<BTreeMap<Name, EventStats>, BrokerError> {
        let mut query = PointQuery::since(span.of_sums(SERIES), self.now() - span.length());
        query.group = queue.cloned();
        let mut events: BTreeMap<Name, EventStats> = BTreeMap::new();
        for point in self.broker.points(&query).await? {
            events.entry(point.key).or_default().add(&point.counts);
        }
        Ok(events)
    }

    /// The attempts of an event over a span of time: by the minute up to six hours, by the hour up to a week, and
    /// otherwise by the day. Times without attempts are left out.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn event_course(&self, event: &Name, span: Span) -> Result<Course, BrokerError> {
        let from = self.now() - span.length();
        let mut query = PointQuery::since(span.of_sums(SERIES), from);
        query.key = Some(event.clone());
        // A store finds the points of a queue and an event faster than those of an event.
        let found = self.broker.points(&query).await?;
        let queues: BTreeSet<Name> = found.into_iter().map(|point| point.group).collect();
        let mut points = Vec::new();
        for queue in queues {
            let mut query = PointQuery::since(span.of_course(SERIES), from);
            (query.group, query.key) = (Some(queue), Some(event.clone()));
            points.extend(self.broker.points(&query).await?);
        }
        Ok(course(points))
    }

    /// The attempts of each queue in each minute since a time, up to eight hours ago, without their running and waiting
    /// times; those of one queue, if one is given. Times without attempts are left out.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn minutes_since(
        &self,
        queue: Option<&Name>,
        since: Timestamp,
    ) -> Result<BTreeMap<Name, Course>, BrokerError> {
        let mut query = PointQuery::since(Series::QueueMinutes, since);
        (query.group, query.key) = (queue.cloned(), Some(Point::REST));
        let mut queues: BTreeMap<Name, Course> = BTreeMap::new();
        for point in self.broker.points(&query).await? {
            let mut stats = EventStats::default();
            stats.add(&point.counts);
            queues
                .entry(point.group)
                .or_default()
                .push((point.at, stats));
        }
        Ok(queues)
    }
}

/// The sums of points with the same time.
fn course(points: Vec<Point>) -> Course {
    let mut course: BTreeMap<Timestamp, EventStats> = BTreeMap::new();
    for point in points {
        course.entry(point.at).or_default().add(&point.counts);
    }
    course.into_iter().collect()
}
