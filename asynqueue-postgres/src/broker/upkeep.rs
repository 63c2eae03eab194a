//! Upkeep: tasks that become due, and tasks that are no longer kept.

use std::{
    hash::BuildHasher,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use asynqueue_core::{
    broker::{BrokerError, Each, Forwarded, HourStats, Keep, Trimmed, kit::io},
    task::Name,
};

use super::{MAX_CHUNK, PostgresBroker, lease::place_of};
use crate::{
    link::Event,
    sql::{
        Call, Value,
        values::{duration, int, long, texts, timestamp},
    },
};

const FORWARD: &str = "select n, moved, next_due, is_open, head from asynqueue.forward($1, $2, $3)";

const TRIM: &str =
    "select n, completed, by_count, by_age, archived from asynqueue.trim($1, $2, $3, $4, $5, $6)";

/// A process adds tallies up after this number of its own calls. Servers do so whenever they trim, but there may be none.
const ADD_UP_EVERY: u32 = 1_000;

/// Where a process starts to count: anywhere, because it may end before it has made that many calls.
pub(super) fn first_tally() -> AtomicU32 {
    let random = std::collections::hash_map::RandomState::new().hash_one(());
    AtomicU32::new((random % u64::from(ADD_UP_EVERY)) as u32)
}

impl PostgresBroker {
    /// Counts a call that leaves a tally. Adds the tallies of all processes up now and then, without delaying the call.
    pub(crate) fn note_tally(&self) {
        if self.0.tallies.fetch_add(1, Relaxed) % ADD_UP_EVERY != ADD_UP_EVERY - 1 {
            return;
        }
        let broker = self.clone();
        let adding = async move {
            let call = Call::new(
                "select asynqueue.add_up(), asynqueue.forget_calls(asynqueue.now_at(null))",
                [],
            );
            if let Err(fault) = broker.link().call_once(&call).await {
                tracing::debug!(
                    ?fault,
                    "could not add up the counts of queues; trying later"
                );
            }
        };
        // Fails if the process ends.
        let _ = io::spawn(adding);
    }

    pub(super) async fn forward_due(
        &self,
        queues: &[Name],
        limit: usize,
    ) -> Result<Each<Forwarded>, BrokerError> {
        let mut forwarded: Each<Forwarded> =
            queues.iter().map(|_| Ok(Forwarded::default())).collect();
        let mut left = limit;
        while left > 0 {
            let chunk = left.min(MAX_CHUNK);
            left -= chunk;
            // More may be due only if one of the queues had as many.
            if !self.forward_some(queues, chunk, &mut forwarded).await? {
                break;
            }
        }
        Ok(forwarded)
    }

    /// Moves up to `limit` tasks of each queue. Returns whether there may be more.
    async fn forward_some(
        &self,
        queues: &[Name],
        limit: usize,
        forwarded: &mut Each<Forwarded>,
    ) -> Result<bool, BrokerError> {
        let call = Call::new(FORWARD, [texts(queues), int(limit), self.link().fixed()]);
        let rows = self.link().call(&call).await?;
        let (mut events, mut may_be_more) = (Vec::new(), false);
        for row in &rows {
            let place = place_of(row)?;
            let (Some(queue), Some(Ok(one))) = (queues.get(place), forwarded.get_mut(place)) else {
                continue;
            };
            let moved = usize::try_from(row.get::<_, i32>(1)).unwrap_or_default();
            if moved > 0 && row.get(3) {
                events.push(Event::Pending(queue.clone(), row.get(4)));
            }
            may_be_more |= moved == limit;
            one.moved += moved;
            one.next_due = row.get::<_, Option<i64>>(2).map(timestamp);
        }
        self.link().announce(events);
        Ok(may_be_more)
    }

    pub(super) async fn trim_old(
        &self,
        queues: &[Name],
        keep: Keep,
        limit: usize,
    ) -> Result<Each<Trimmed>, BrokerError> {
        let hour = self.link().now().as_millis() / HourStats::MILLIS;
        let oldest_hour = i32::try_from(hour.saturating_sub(HourStats::KEPT)).unwrap_or_default();
        let call = Call::new(
            TRIM,
            [
                texts(queues),
                long(duration(keep.archived_for)),
                long(i64::try_from(keep.archived_max).unwrap_or(i64::MAX)),
                int(limit.min(1_000_000)),
                Value::Int(oldest_hour),
                self.link().fixed(),
            ],
        );
        let rows = self.link().call(&call).await?;
        self.link().news.here.forget_gone();
        let mut trimmed: Each<Trimmed> = queues.iter().map(|_| Ok(Trimmed::default())).collect();
        for row in &rows {
            let number = |column| usize::try_from(row.get::<_, i32>(column)).unwrap_or_default();
            if let Some(one) = trimmed.get_mut(place_of(row)?) {
                *one = Ok(Trimmed {
                    completed: number(1),
                    by_count: number(2),
                    by_age: number(3),
                    archived: u64::try_from(row.get::<_, i64>(4)).unwrap_or_default(),
                });
            }
        }
        Ok(trimmed)
    }
}
