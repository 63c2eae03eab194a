//! Figures over time.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    broker::{Counts, Point, PointQuery, Series},
    task::{Name, Timestamp},
};

/// All points, by series, time, group and key.
#[derive(Debug, Default)]
pub(super) struct Points(BTreeMap<Place, (Counts, Bytes)>);

type Place = (Series, Timestamp, Name, Name);

impl Points {
    pub(super) fn add(&mut self, points: Vec<Point>, now: Timestamp) {
        for point in points {
            self.forget(point.series, now);
            self.add_one(point);
        }
    }

    fn add_one(&mut self, point: Point) {
        let mut place = (point.series, point.at, point.group, point.key);
        let mut note = point.note;
        if !self.0.contains_key(&place) && self.keys_beside(&place) >= point.series.max_keys() {
            place.3 = Point::REST;
            note = Bytes::new();
        }
        let (counts, _) = self.0.entry(place).or_insert((Counts::default(), note));
        counts.merge(&point.counts);
    }

    /// The number of keys in a group, besides the rest.
    fn keys_beside(&self, (series, at, group, _): &Place) -> usize {
        let first = (*series, *at, group.clone(), Point::REST);
        let keys = self.0.range(first..);
        let keys = keys.take_while(|((s, a, g, _), _)| (s, a, g) == (series, at, group));
        keys.filter(|((.., key), _)| *key != Point::REST).count()
    }

    /// Removes points that are no longer kept.
    fn forget(&mut self, series: Series, now: Timestamp) {
        let since = series.kept_since(now);
        let first = (series, Timestamp::default(), NO_NAME, NO_NAME);
        while let Some((place, _)) = self.0.range(first.clone()..).next()
            && place.0 == series
            && place.1 < since
        {
            let place = place.clone();
            self.0.remove(&place);
        }
    }

    pub(super) fn read(&self, query: &PointQuery, now: Timestamp) -> Vec<Point> {
        let series = query.series;
        let first = query.from.max(series.kept_since(now));
        let found = self.0.range((series, first, NO_NAME, NO_NAME)..);
        let found = found.take_while(|((s, at, ..), _)| *s == series && *at < query.until);
        let found = found.filter(|((_, _, group, key), _)| query.includes(group, key));
        let point =
            |((series, at, group, key), (counts, note)): (&Place, &(Counts, Bytes))| Point {
                series: *series,
                at: *at,
                group: group.clone(),
                key: key.clone(),
                counts: counts.clone(),
                note: note.clone(),
            };
        found.map(point).collect()
    }
}

/// Sorts before all names.
const NO_NAME: Name = Name::from_static("");
