//! Figures over time.

use asynqueue_core::{
    broker::{BrokerError, Counts, Point, PointQuery, Series},
    task::Name,
};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::SqliteBroker;
use crate::{
    change::Change,
    link::{Need, View},
    sql::{Direct, Fault, millis, timestamp},
};

const COUNTS: &str =
    "select counts from asynqueue_point where series = ?1 and at = ?2 and part = ?3 and key = ?4";

/// The number of keys of a group, besides the rest.
const KEYS: &str = "select count(*) from asynqueue_point where series = ?1 and at = ?2 and part = ?3 and key <> ''";

const PUT: &str = "insert into asynqueue_point values (?1, ?2, ?3, ?4, ?5, ?6) \
     on conflict do update set counts = excluded.counts";

const FORGET: &str = "delete from asynqueue_point where series = ?1 and at < ?2";

const READ: &str = "select at, part, key, counts, note from asynqueue_point \
     where series = ?1 and at >= ?2 and at < ?3 and part = coalesce(?4, part) and key = coalesce(?5, key) \
     order by at, part, key";

impl SqliteBroker {
    pub(super) async fn add_to_points(&self, points: Vec<Point>) -> Result<(), BrokerError> {
        let write = move |change: &mut Change<Direct<'_>>| {
            let (db, now) = (change.sql.0, change.now);
            for series in Series::ALL {
                if points.iter().any(|point| point.series == series) {
                    let since = millis(series.kept_since(now));
                    let mut forget = db.prepare_cached(FORGET)?;
                    forget.execute(params![series.as_str(), since])?;
                }
            }
            points.iter().try_for_each(|point| add(db, point))
        };
        self.link().write(Need::Own, write).await
    }

    pub(super) async fn read_points(&self, query: &PointQuery) -> Result<Vec<Point>, BrokerError> {
        let query = query.clone();
        let read = move |view: &View<'_>| {
            let series = query.series;
            let from = millis(query.from.max(series.kept_since(view.now)));
            let until = millis(query.until);
            let (group, key) = (query.group.as_deref(), query.key.as_deref());
            let mut found = view.db.prepare_cached(READ)?;
            let values = params![series.as_str(), from, until, group, key];
            let found = found.query_map(values, |row| point(series, row))?;
            Ok(found.collect::<Result<_, _>>()?)
        };
        self.link().read(read).await
    }
}

fn add(db: &Connection, point: &Point) -> Result<(), Fault> {
    let (series, at, group) = (point.series, millis(point.at), point.group.as_str());
    let found = |key: &str| {
        let mut counts = db.prepare_cached(COUNTS)?;
        let place = params![series.as_str(), at, group, key];
        counts
            .query_row(place, |row| row.get::<_, Vec<u8>>(0))
            .optional()
    };
    let (mut key, mut note) = (point.key.as_str(), &point.note[..]);
    let mut before = found(key)?;
    if before.is_none() && key != Point::REST.as_str() {
        let mut keys = db.prepare_cached(KEYS)?;
        let keys: i64 = keys.query_row(params![series.as_str(), at, group], |row| row.get(0))?;
        if keys >= series.max_keys() as i64 {
            (key, note) = ("", &[]);
            before = found(key)?;
        }
    }
    let mut counts = before.map_or_else(Counts::default, |before| decoded(&before));
    counts.merge(&point.counts);
    let row = params![series.as_str(), at, group, key, encoded(&counts)?, note];
    db.prepare_cached(PUT)?.execute(row)?;
    Ok(())
}

fn point(series: Series, row: &Row<'_>) -> rusqlite::Result<Point> {
    Ok(Point {
        series,
        at: timestamp(row.get(0)?),
        group: Name::from(row.get::<_, String>(1)?),
        key: Name::from(row.get::<_, String>(2)?),
        counts: decoded(&row.get::<_, Vec<u8>>(3)?),
        note: Bytes::from(row.get::<_, Vec<u8>>(4)?),
    })
}

/// Slots and numbers in turn.
fn encoded(counts: &Counts) -> Result<Vec<u8>, Fault> {
    let pair = |(slot, n): (u8, u64)| [slot.into(), n];
    let flat: Vec<u64> = counts.iter().flat_map(pair).collect();
    let bytes = rmp_serde::to_vec(&flat);
    bytes.map_err(|error| {
        Fault::Broker(BrokerError::protocol("figures cannot be encoded").caused_by(error))
    })
}

/// Undecodable figures, which a later version may have written, count as none.
fn decoded(bytes: &[u8]) -> Counts {
    let flat: Vec<u64> = rmp_serde::from_slice(bytes).unwrap_or_default();
    let pair = |pair: &[u64]| Some((u8::try_from(pair[0]).ok()?, pair[1]));
    flat.chunks_exact(2).filter_map(pair).collect()
}
