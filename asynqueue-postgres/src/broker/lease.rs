//! Leases: taking them, extending them, and finding those that have expired.

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, Each, Extended, Lease, LeaseRequest, LeaseToken, Leased},
    task::{Name, Timestamp},
};
use tokio_postgres::Row;

use super::{
    MAX_CHUNK, PostgresBroker,
    row::{Read, Stored},
};
use crate::sql::{
    Call,
    values::{
        blobs, duration, id_bytes, int, ints, long, longs, task_id, text, texts, time, timestamp,
    },
};

const LEASE: &str = "select n, id, envelope, changes, token, since, at from asynqueue.lease($1, $2, $3, $4, $5, $6, $7, $8, $9)";

const EXTEND: &str = "select n, outcome from asynqueue.extend($1, $2, $3, $4, $5, $6)";

const EXPIRED: &str = "select u.ord::integer, k.id, k.envelope, \
     (select c.changes from asynqueue.change c where c.turn = l.turn), l.token, asynqueue.now_at($4) \
     from unnest($1) with ordinality u(name, ord) join asynqueue.queue q on q.name = u.name \
     cross join lateral (select l.turn, l.token, l.until from asynqueue.lease l \
     where l.queue = q.id and l.until <= least($2, asynqueue.now_at($4)) order by l.until, l.turn limit $3) l \
     cross join lateral (select k.id, k.envelope from asynqueue.task k where k.turn = l.turn offset 0) k \
     order by u.ord, l.until, l.turn";

impl PostgresBroker {
    pub(super) async fn lease_pending(
        &self,
        request: &LeaseRequest,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        let mut queues: Each<Vec<Leased>> = request.queues.iter().map(|_| Ok(Vec::new())).collect();
        let mut unreadable = Vec::new();
        let mut left = request.clone();
        loop {
            let wanted = left.max.min(MAX_CHUNK);
            let (rows, is_again) = match self.lease_some(&left).await {
                Ok(leased) => leased,
                // Tasks that are leased must reach the caller.
                Err(_) if left.max < request.max => break,
                Err(error) => return Err(error),
            };
            for row in &rows {
                let place = place_of(row)?;
                let (Some((name, limit)), Some(Ok(leased))) =
                    (left.queues.get_mut(place), queues.get_mut(place))
                else {
                    return Err(BrokerError::protocol("a task of another queue was leased"));
                };
                *limit = limit.saturating_sub(1);
                let now = row.get(6);
                self.link().note_time(now);
                let read = stored(row)?.read(name);
                let list = match read {
                    Read::Whole(_) => leased,
                    Read::Unreadable(_) => &mut unreadable,
                };
                let mut task = Leased::new(read.either(), token(row), timestamp(now));
                task.pending_since = Some(timestamp(row.get(5)));
                list.push(task);
            }
            left.max = left.max.saturating_sub(rows.len());
            if (rows.len() < wanted && !is_again) || left.max == 0 {
                break;
            }
        }
        self.0.unreadable.release(self, &unreadable).await;
        Ok(queues)
    }

    /// Leased tasks, and whether they are those of the last call, which may have left some.
    async fn lease_some(&self, request: &LeaseRequest) -> Result<(Vec<Row>, bool), BrokerError> {
        let call = Call::new(
            LEASE,
            [
                texts(request.queues.iter().map(|(name, _)| name)),
                ints(request.queues.iter().map(|(_, limit)| *limit)),
                int(request.max),
                long(duration(request.lease)),
                text(&request.worker),
                self.link().fixed(),
            ],
        );
        // If the response to the last call never came, this one returns what it has leased.
        let lane = self.link().leases.again_or_next(0);
        let is_again = lane.is_again();
        Ok((self.link().call_in(lane, call).await?, is_again))
    }

    pub(super) async fn extend_all(
        &self,
        leases: &[Lease],
        lasts: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        let (names, of) = queues_of(leases.iter().map(|lease| &lease.task.queue));
        let call = Call::new(
            EXTEND,
            [
                texts(&names),
                ints(of),
                blobs(leases.iter().map(|lease| id_bytes(&lease.task.id))),
                longs(leases.iter().map(|lease| lease.token.0 as i64)),
                long(duration(lasts)),
                self.link().fixed(),
            ],
        );
        let rows = self.link().call(&call).await?;
        let mut extended: Each<Extended> = leases.iter().map(|_| Ok(Extended::Lost)).collect();
        for row in &rows {
            if let Some(lease) = extended.get_mut(place_of(row)?) {
                *lease = Ok(match row.get::<_, i16>(1) {
                    2 => Extended::CancelRequested,
                    _ => Extended::Yes,
                });
            }
        }
        Ok(extended)
    }

    pub(super) async fn find_expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        let values = [
            texts(queues),
            long(time(by)),
            int(limit),
            self.link().fixed(),
        ];
        let call = Call::new(EXPIRED, values);
        let rows = self.link().call(&call).await?;
        let mut found: Each<Vec<Leased>> = queues.iter().map(|_| Ok(Vec::new())).collect();
        for row in &rows {
            let place = place_of(row)?;
            if let (Some(name), Some(Ok(expired))) = (queues.get(place), found.get_mut(place)) {
                let now = timestamp(row.get(5));
                let envelope = stored(row)?.read(name).either();
                expired.push(Leased::new(envelope, token(row), now));
            }
        }
        Ok(found)
    }
}

/// The place of a row's item in its call, which counts from 1.
pub(super) fn place_of(row: &Row) -> Result<usize, BrokerError> {
    let place: i32 = row.get(0);
    usize::try_from(place - 1)
        .map_err(|_| BrokerError::protocol("a row belongs to nothing that was asked for"))
}

fn stored(row: &Row) -> Result<Stored, BrokerError> {
    Ok(Stored {
        id: task_id(row.get(1))?,
        envelope: row.get(2),
        changes: row.get(3),
    })
}

fn token(row: &Row) -> LeaseToken {
    LeaseToken(row.get::<_, i64>(4) as u64)
}

/// The queues of items, each once, and the place of each item's queue, which counts from 1.
pub(super) fn queues_of<'a>(queues: impl Iterator<Item = &'a Name>) -> (Vec<&'a Name>, Vec<usize>) {
    let mut names: Vec<&Name> = Vec::new();
    let place = |queue| match names.iter().position(|name| *name == queue) {
        Some(place) => place + 1,
        None => {
            names.push(queue);
            names.len()
        }
    };
    let of = queues.map(place).collect();
    (names, of)
}
