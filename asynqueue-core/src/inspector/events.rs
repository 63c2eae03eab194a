//! Statistics by event.

use std::collections::BTreeMap;

use super::Inspector;
use crate::{
    broker::{BrokerError, Point, PointQuery, Series},
    statistics::{EventStats, Span},
    task::{Name, Timestamp},
};

const SERIES: [Series; 3] = [Series::EventMinutes, Series::EventHours, Series::EventDays];

impl Inspector {
    /// The attempts of each event in a span of time, by event. The event with an empty name has all those beyond the
    /// first 1,000 events.
    ///
    /// A span of up to an hour counts whole minutes, one of up to a day whole hours, and a longer one whole days of UTC.
    /// Servers add their figures every ten seconds.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn event_stats(&self, span: Span) -> Result<BTreeMap<Name, EventStats>, BrokerError> {
        let query = PointQuery::since(span.of_sums(SERIES), self.now() - span.length());
        let mut events: BTreeMap<Name, EventStats> = BTreeMap::new();
        for point in self.broker.points(&query).await? {
            events.entry(point.key).or_default().add(&point.counts);
        }
        Ok(events)
    }

    /// The attempts of an event over a span of time, oldest first: by the minute up to six hours, by the hour up to a
    /// week, and otherwise by the day. Times without attempts are left out.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn event_course(
        &self,
        event: &Name,
        span: Span,
    ) -> Result<Vec<(Timestamp, EventStats)>, BrokerError> {
        let from = self.now() - span.length();
        let mut query = PointQuery::since(span.of_course(SERIES), from);
        query.only = Some((Name::from_static(""), event.clone()));
        let points = self.broker.points(&query).await?;
        let stats = |point: Point| {
            let mut stats = EventStats::default();
            stats.add(&point.counts);
            (point.at, stats)
        };
        Ok(points.into_iter().map(stats).collect())
    }
}
