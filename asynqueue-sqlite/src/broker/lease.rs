//! Leases: taking them, extending them, and finding those that have expired.

use std::time::Duration;

use asynqueue_core::{
    broker::{BrokerError, Each, Extended, Lease, LeaseRequest, LeaseToken, Leased},
    task::{Envelope, Name, TaskState, Timestamp},
};
use rusqlite::{OptionalExtension, params};

use super::{
    SqliteBroker,
    apart::{only, together_or_apart},
    row::{Read, Stored},
};
use crate::{
    change::{Change, Side},
    link::{Need, View},
    sql::{Direct, Fault, Id, millis, ready, task_id, timestamp},
};

/// A leased task, before it is decoded.
struct Taken {
    stored: Stored,
    token: LeaseToken,
    since: Option<Timestamp>,
}

/// The next pending tasks of a queue.
pub(crate) const NEXT: &str = "select r.rank, r.turn, t.id, t.at, t.flags & 1, t.envelope, \
     case t.flags & 2 when 2 then \
     (select changes from asynqueue_change c where c.queue = t.queue and c.id = t.id) end \
     from asynqueue_ready r cross join asynqueue_task t on t.queue = r.queue and t.id = r.id \
     where r.queue = ?1 order by r.rank, r.turn limit ?2";

/// Takes the pending tasks up to one from their list.
pub(crate) const TAKE: &str =
    "delete from asynqueue_ready where queue = ?1 and (rank, turn) <= (?2, ?3)";

const LEASE: &str = "insert into asynqueue_lease values (?1, ?2, ?3, ?4, ?5)";

pub(crate) const EXTEND: &str =
    "update asynqueue_lease set until = ?4 where queue = ?1 and id = ?2 and token = ?3";

pub(crate) const EXPIRED: &str = "select l.id, l.token, t.envelope, c.changes from asynqueue_lease l \
     join asynqueue_task t on t.queue = l.queue and t.id = l.id \
     left join asynqueue_change c on c.queue = l.queue and c.id = l.id \
     where l.queue = ?1 and l.until <= ?2 order by l.until, l.id limit ?3";

impl SqliteBroker {
    pub(super) async fn lease_pending(
        &self,
        request: &LeaseRequest,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        let together = self.lease_together(request).await;
        if request.queues.len() < 2 || !matches!(together, Err(BrokerError::Protocol(_))) {
            return together;
        }
        // The rows of one queue are damaged, which the others have nothing to do with.
        let (mut left, mut results) = (request.max, Vec::new());
        for queue in &request.queues {
            let mut alone = request.clone();
            (alone.queues, alone.max) = (vec![queue.clone()], left);
            let leased = only(self.lease_together(&alone).await);
            left -= leased.as_ref().map_or(0, Vec::len);
            results.push(leased);
        }
        Ok(results)
    }

    async fn lease_together(
        &self,
        request: &LeaseRequest,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        let asked = request.clone();
        let write = move |change: &mut Change<Direct<'_>>| {
            let mut left = asked.max;
            let queues = asked.queues.iter().map(|(name, limit)| {
                let taken = change.lease(name, left.min(*limit), &asked)?;
                left -= taken.len();
                Ok(taken)
            });
            let taken = queues.collect::<Result<Vec<_>, Fault>>()?;
            Ok((taken, change.now))
        };
        let (taken, now) = self.link().write(Need::Nothing, write).await?;
        let mut unreadable = Vec::new();
        let queues = request.queues.iter().zip(taken).map(|((name, _), taken)| {
            let mut leased = Vec::with_capacity(taken.len());
            for one in taken {
                let (token, since) = (one.token, one.since);
                let read = one.stored.read(name);
                let list = match read {
                    Read::Whole(_) => &mut leased,
                    Read::Unreadable(_) => &mut unreadable,
                };
                let mut task = Leased::new(read.either(), token, now);
                task.pending_since = since;
                list.push(task);
            }
            Ok(leased)
        });
        let leased = queues.collect();
        self.0.unreadable.release(self, &unreadable).await;
        Ok(leased)
    }

    pub(super) async fn extend_all(
        &self,
        leases: &[Lease],
        time: Duration,
    ) -> Result<Each<Extended>, BrokerError> {
        let extend = |leases: Vec<Lease>| {
            let write = move |change: &mut Change<Direct<'_>>| {
                let until = change.now + time;
                let extended = leases
                    .iter()
                    .map(|lease| Ok(Ok(change.extend(lease, until)?)));
                extended.collect()
            };
            self.link().write(Need::Nothing, write)
        };
        together_or_apart(leases, extend).await
    }

    pub(super) async fn find_expired(
        &self,
        queues: &[Name],
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        let find = |names: Vec<Name>| self.find_expired_together(names, by, limit);
        together_or_apart(queues, find).await
    }

    async fn find_expired_together(
        &self,
        queues: Vec<Name>,
        by: Timestamp,
        limit: usize,
    ) -> Result<Each<Vec<Leased>>, BrokerError> {
        let names = queues.clone();
        let read = move |view: &View<'_>| {
            let expired = names.iter().map(|name| view.expired(name, by, limit));
            Ok((expired.collect::<Result<Vec<_>, Fault>>()?, view.now))
        };
        let (found, now) = self.link().read(read).await?;
        let of_queue = |(name, found): (&Name, Vec<(Stored, LeaseToken)>)| {
            let leased =
                |(stored, token): (Stored, _)| Leased::new(stored.read(name).either(), token, now);
            Ok(found.into_iter().map(leased).collect())
        };
        Ok(queues.iter().zip(found).map(of_queue).collect())
    }
}

impl Change<Direct<'_>> {
    /// Leases up to `limit` pending tasks of a queue.
    fn lease(
        &mut self,
        name: &Name,
        limit: usize,
        request: &LeaseRequest,
    ) -> Result<Vec<Taken>, Fault> {
        let Some(queue) = ready(self.known(name))? else {
            return Ok(Vec::new());
        };
        let is_waiting = self.queues[queue].count(TaskState::Pending) > 0;
        if limit == 0 || self.queues[queue].row.paused || !is_waiting {
            return Ok(Vec::new());
        }
        let (db, id) = (self.sql.0, self.queues[queue].id);
        let until = millis(self.now + request.lease);
        let mut last = None;
        let (mut taken, mut holding) = (Vec::new(), Vec::new());
        {
            let mut next = db.prepare_cached(NEXT)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = next.query(params![id, limit])?;
            while let Some(row) = rows.next()? {
                last = Some((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?));
                let stored = Stored {
                    id: task_id(row.get_ref(2)?)?,
                    envelope: row.get(5)?,
                    changes: row.get(6)?,
                };
                if row.get::<_, i64>(4)? != 0 {
                    holding.push(taken.len());
                }
                taken.push(Taken {
                    stored,
                    token: LeaseToken(0),
                    since: Some(timestamp(row.get(3)?)),
                });
            }
        }
        let Some((rank, turn)) = last else {
            return Ok(taken);
        };
        let removed = db.prepare_cached(TAKE)?.execute(params![id, rank, turn])?;
        let mut lease = db.prepare_cached(LEASE)?;
        for one in &mut taken {
            let token = ready(self.number())?;
            one.token = LeaseToken(token as u64);
            let task = Id::of(&one.stored.id);
            lease.execute(params![id, task, token, until, request.worker.as_str()])?;
        }
        drop(lease);
        let row = &mut self.queues[queue];
        row.add(TaskState::Pending, -(removed as i64));
        row.add(TaskState::Active, taken.len() as i64);
        for place in holding {
            let stored = &taken[place].stored;
            if let Ok(task) =
                Envelope::from_bytes(name.clone(), stored.id.clone(), &stored.envelope)
            {
                ready(self.unlock_at_start(queue, &task))?;
            }
        }
        Ok(taken)
    }

    fn extend(&mut self, lease: &Lease, until: Timestamp) -> Result<Extended, Fault> {
        if ready(self.is_settled(lease.token))? {
            return Ok(Extended::Yes);
        }
        let Some(queue) = ready(self.known(&lease.task.queue))? else {
            return Ok(Extended::Lost);
        };
        let (queue, id) = (self.queues[queue].id, Id::of(&lease.task.id));
        let row = params![queue, id, lease.token.0 as i64, millis(until)];
        if self.sql.0.prepare_cached(EXTEND)?.execute(row)? == 0 {
            return Ok(Extended::Lost);
        }
        if !ready(self.has(Side::Running))? {
            return Ok(Extended::Yes);
        }
        let cancel =
            "select 1 from asynqueue_running where queue = ?1 and id = ?2 and cancel is not null";
        let mut cancel = self.sql.0.prepare_cached(cancel)?;
        let requested = cancel
            .query_row(params![queue, id], |_| Ok(()))
            .optional()?;
        Ok(match requested {
            Some(()) => Extended::CancelRequested,
            None => Extended::Yes,
        })
    }
}

impl View<'_> {
    fn expired(
        &self,
        name: &Name,
        by: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Stored, LeaseToken)>, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(Vec::new());
        };
        let mut expired = self.db.prepare_cached(EXPIRED)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let mut rows = expired.query(params![queue, millis(self.now.min(by)), limit])?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            let stored = Stored {
                id: task_id(row.get_ref(0)?)?,
                envelope: row.get(2)?,
                changes: row.get(3)?,
            };
            found.push((stored, LeaseToken(row.get::<_, i64>(1)? as u64)));
        }
        Ok(found)
    }
}
