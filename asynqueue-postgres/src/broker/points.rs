//! Figures over time.

use asynqueue_core::{
    broker::{BrokerError, Point, PointQuery, Series},
    task::Name,
};
use bytes::Bytes;
use tokio_postgres::Row;

use super::PostgresBroker;
use crate::sql::{
    Call, Value,
    values::{blobs, ints, long, longs, shorts, text, texts, time, timestamp},
};

const ADD: &str =
    "select asynqueue.add_points($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";

const READ: &str = "select at, part, key, slots, numbers, note from asynqueue.point \
     where series = $1 and at >= $2 and at < $3 and part = coalesce($4, part) and key = coalesce($5, key) \
     order by at, part, key";

impl PostgresBroker {
    pub(super) async fn add_to_points(&self, points: Vec<Point>) -> Result<(), BrokerError> {
        self.link().open_or_closed()?;
        if points.is_empty() {
            return Ok(());
        }
        let call = self.add(&points);
        let lane = self.link().changes.next();
        self.link().call_in(lane, call).await.map(drop)
    }

    fn add(&self, points: &[Point]) -> Call {
        let now = self.link().now();
        let known: Vec<_> = Series::ALL
            .into_iter()
            .filter(|series| points.iter().any(|point| point.series == *series))
            .collect();
        let of = |point: &Point| known.iter().position(|series| *series == point.series);
        let lengths = points.iter().map(|point| point.counts.iter().count());
        let lasts = lengths.scan(0, |last, length| {
            *last += length;
            Some(*last)
        });
        let lasts: Vec<_> = lasts.collect();
        let firsts = std::iter::once(0).chain(lasts.iter().copied());
        let counts = || points.iter().flat_map(|point| point.counts.iter());
        Call::new(
            ADD,
            [
                texts(known.iter().map(|series| series.as_str())),
                longs(known.iter().map(|series| time(series.kept_since(now)))),
                ints(known.iter().map(|series| series.max_keys())),
                ints(points.iter().map(|point| of(point).map_or(0, |of| of + 1))),
                longs(points.iter().map(|point| time(point.at))),
                texts(points.iter().map(|point| &point.group)),
                texts(points.iter().map(|point| &point.key)),
                blobs(points.iter().map(|point| point.note.to_vec())),
                ints(firsts.take(points.len()).map(|before| before + 1)),
                ints(lasts.iter().copied()),
                shorts(counts().map(|(slot, _)| slot.into())),
                longs(counts().map(|(_, n)| n as i64)),
            ],
        )
    }

    pub(super) async fn read_points(&self, query: &PointQuery) -> Result<Vec<Point>, BrokerError> {
        let series = query.series;
        let from = query.from.max(series.kept_since(self.link().now()));
        let some = |name: &Option<Name>| Value::Text(name.as_ref().map(Name::to_string));
        let values = [
            text(series.as_str()),
            long(time(from)),
            long(time(query.until)),
            some(&query.group),
            some(&query.key),
        ];
        let rows = self.link().call(&Call::new(READ, values)).await?;
        Ok(rows.iter().map(|row| point(series, row)).collect())
    }
}

fn point(series: Series, row: &Row) -> Point {
    let (slots, numbers): (Vec<i16>, Vec<i64>) = (row.get(3), row.get(4));
    let counts = slots.into_iter().zip(numbers);
    let count = |(slot, n)| Some((u8::try_from(slot).ok()?, u64::try_from(n).ok()?));
    Point {
        series,
        at: timestamp(row.get(0)),
        group: Name::from(row.get::<_, String>(1)),
        key: Name::from(row.get::<_, String>(2)),
        counts: counts.filter_map(count).collect(),
        note: Bytes::from(row.get::<_, Vec<u8>>(5)),
    }
}
