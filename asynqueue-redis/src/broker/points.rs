//! Figures over time. Each span of a series is a HASH with an expiry, all in one slot.

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, Counts, Point, PointQuery, Series, Store},
    task::{Name, Timestamp},
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{MAX_CHUNK, RedisBroker, millis};
use crate::{keys, reply, script};

/// How many hashes are read concurrently.
const CONCURRENT: usize = 64;

impl RedisBroker {
    pub(super) async fn add_to_points(&self, points: Vec<Point>) -> Result<(), BrokerError> {
        if points.is_empty() {
            return self.link().open_or_closed();
        }
        for chunk in points.chunks(MAX_CHUNK) {
            let lane = self.0.changes.next();
            let call = self.add(chunk, &lane.name(), lane.number());
            call.send(self.link()).await?;
            lane.answered();
        }
        Ok(())
    }

    fn add(
        &self,
        points: &[Point],
        lane: &str,
        number: u64,
    ) -> script::Call<script::add_points::Of> {
        let (prefix, now) = (&self.0.prefix, self.now());
        let lanes = keys::point_lanes(prefix);
        let mut spans: Vec<_> = points
            .iter()
            .map(|point| (point.series, point.at))
            .collect();
        spans.sort_unstable();
        spans.dedup();
        let hashes: Vec<_> = spans
            .iter()
            .map(|(series, at)| keys::points(prefix, *series, *at))
            .collect();
        let hashes: Vec<_> = hashes.iter().map(String::as_str).collect();
        let mut call = script::add_points::call(
            script::add_points::Keys {
                lanes: &lanes,
                spans: &hashes,
            },
            script::add_points::Args {
                not_after: self.script_clock(),
                lane,
                number,
            },
        );
        for point in points {
            let until = point.at + point.series.kept() + point.series.span();
            call.row(script::add_points::Point {
                span: spans.partition_point(|span| *span < (point.series, point.at)),
                group: point.group.as_str(),
                key: point.key.as_str(),
                figures: written(&point.counts),
                note: &point.note[..],
                max_keys: point.series.max_keys(),
                kept: millis(until.since(now)).max(1),
            });
        }
        call
    }

    pub(super) async fn read_points(&self, query: &PointQuery) -> Result<Vec<Point>, BrokerError> {
        self.link().open_or_closed()?;
        let (series, now) = (query.series, self.now());
        // Clocks of servers may be ahead.
        let end = query.until.min(now + series.span() * 2);
        let first = query.from.max(series.kept_since(now));
        let mut at = series.start_of(first + (series.span() - Duration::from_millis(1)));
        let mut starts = Vec::new();
        while at < end {
            starts.push(at);
            at = at + series.span();
        }
        let read = starts.into_iter().map(|at| self.read_span(query, at));
        let found: Vec<Vec<Point>> = stream::iter(read)
            .buffered(CONCURRENT)
            .try_collect()
            .await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// By group and key.
    async fn read_span(
        &self,
        query: &PointQuery,
        at: Timestamp,
    ) -> Result<Vec<Point>, BrokerError> {
        let hash = keys::points(&self.0.prefix, query.series, at);
        let fields = match (&query.group, &query.key) {
            (Some(group), Some(key)) => {
                let field = format!("{}:{group}{key}", group.len());
                let mut command = redis::cmd("HGET");
                command.arg(&hash).arg(&field);
                let value = reply::some_bytes(self.command(&command).await?)?;
                value.map(|value| (field, value)).into_iter().collect()
            }
            _ => self.hash(&hash).await?,
        };
        let fields = fields.into_iter();
        let points = fields.filter_map(|(field, value)| read(query.series, at, &field, &value));
        let points = points.filter(|point| query.includes(&point.group, &point.key));
        let mut points: Vec<_> = points.collect();
        points.sort_unstable_by(|a, b| (&a.group, &a.key).cmp(&(&b.group, &b.key)));
        Ok(points)
    }
}

/// Slots and numbers in turn.
fn written(counts: &Counts) -> String {
    let pairs = counts.iter().map(|(slot, n)| format!("{slot} {n}"));
    pairs.collect::<Vec<_>>().join(" ")
}

/// Reads a point. `None` for the number of keys of a group, and for a value that is not a point.
fn read(series: Series, at: Timestamp, field: &str, value: &[u8]) -> Option<Point> {
    let (length, names) = field.split_once(':')?;
    let (group, key) = names.split_at_checked(length.parse().ok()?)?;
    let end = value.iter().position(|byte| *byte == b';')?;
    let figures = std::str::from_utf8(&value[..end]).ok()?;
    let numbers: Vec<u64> = figures
        .split_ascii_whitespace()
        .filter_map(|n| n.parse().ok())
        .collect();
    let pairs = numbers.chunks_exact(2);
    Some(Point {
        series,
        at,
        group: Name::from(group),
        key: Name::from(key),
        counts: pairs
            .filter_map(|pair| Some((u8::try_from(pair[0]).ok()?, pair[1])))
            .collect(),
        note: Bytes::copy_from_slice(&value[end + 1..]),
    })
}
