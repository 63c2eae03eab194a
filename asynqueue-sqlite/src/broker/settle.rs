//! Recording outcomes.

use asynqueue_core::{
    broker::{
        BrokerError, Each, Finished, LeaseToken, Outcome, Settled, Settlement, kit::promised,
    },
    task::TaskState,
};
use bytes::Bytes;
use rusqlite::{OptionalExtension, params};

use super::{SqliteBroker, apart::together_or_apart};
use crate::{
    change::{Change, Event, Side, state},
    link::Need,
    sql::{Direct, Fault, Id, Sql, int, millis, ready},
};

/// Ends a lease, if it is current.
pub(crate) const END: &str =
    "delete from asynqueue_lease where queue = ?1 and id = ?2 and token = ?3 and until <= ?4";

impl SqliteBroker {
    pub(super) async fn settle_all(
        &self,
        settlements: &[Settlement],
    ) -> Result<Each<Settled>, BrokerError> {
        let outcomes = promised::outcomes(settlements, self.link().now());
        let settle = |settlements: Vec<Settlement>| {
            let write = move |change: &mut Change<Direct<'_>>| {
                let settled = settlements.iter();
                settled.map(|one| Ok(Ok(change.settle(one)?))).collect()
            };
            self.link().write(Need::Own, write)
        };
        let mut settled = together_or_apart(&outcomes, settle).await?;
        promised::forget(settlements, &mut settled);
        Ok(settled)
    }
}

impl<S: Sql> Change<S> {
    /// Whether a handler has completed this lease in its own transaction.
    pub(crate) async fn is_settled(&mut self, token: LeaseToken) -> Result<bool, Fault> {
        if !self.has(Side::Settled).await? {
            return Ok(false);
        }
        let settled = "select 1 from asynqueue_settled where token = ?1";
        let found = self.sql.row(settled, &[int(token.0 as i64)]).await?;
        Ok(found.is_some())
    }
}

impl Change<Direct<'_>> {
    fn settle(&mut self, settlement: &Settlement) -> Result<Settled, Fault> {
        let (task, token) = (&settlement.envelope, settlement.token.0 as i64);
        if ready(self.is_settled(settlement.token))? {
            return match settlement.only_if_expired {
                // Another server saw the lease expire before the handler's commit. Its own server reports the outcome.
                true => Ok(Settled::Stale),
                false => self.confirm(settlement),
            };
        }
        let Some(queue) = ready(self.known(&task.queue))? else {
            return Ok(Settled::Stale);
        };
        let (row, id) = (self.queues[queue].id, Id::of(&task.id));
        let until = if settlement.only_if_expired {
            millis(self.now)
        } else {
            i64::MAX
        };
        let ended = self
            .sql
            .0
            .prepare_cached(END)?
            .execute(params![row, id, token, until])?;
        if ended == 0 {
            return Ok(Settled::Stale);
        }
        self.queues[queue].add(TaskState::Active, -1);
        let cancel = self.forget_running(row, id)?;
        if let Some(counted) = settlement.counts_as() {
            self.queues[queue].count_attempt(self.now, counted);
        }
        self.follow(queue, settlement, cancel)
    }

    /// Notes that the server of a task knows that a handler has completed it in a transaction.
    fn confirm(&mut self, settlement: &Settlement) -> Result<Settled, Fault> {
        let forget = "delete from asynqueue_settled where token = ?1";
        let token = settlement.token.0 as i64;
        self.sql.0.prepare_cached(forget)?.execute([token])?;
        let task = &settlement.envelope;
        let Some(queue) = ready(self.known(&task.queue))? else {
            return Ok(Settled::Completed);
        };
        // The transaction may have been committed before this process could announce it.
        let end = match self.whole(queue, Id::of(&task.id))? {
            Some(found) if found.state() == TaskState::Completed => found.result(),
            Some(_) => return Ok(Settled::Completed),
            None => match (
                self.kept_result(queue, Id::of(&task.id))?,
                &settlement.outcome,
            ) {
                (Some(result), _) => result.map(Bytes::from),
                (None, Outcome::Complete { result }) => result.clone(),
                // Nobody waited for it when the handler committed.
                (None, _) => return Ok(Settled::Completed),
            },
        };
        let (task, codec) = (task.task_ref(), task.codec.clone());
        let end = Finished::Completed { result: end, codec };
        self.events.push(Event::Ended { task, end });
        Ok(Settled::Completed)
    }

    /// Moves the task where its outcome sends it.
    fn follow(
        &mut self,
        queue: usize,
        settlement: &Settlement,
        cancel: Option<String>,
    ) -> Result<Settled, Fault> {
        let task = &settlement.envelope;
        let id = Id::of(&task.id);
        match (&settlement.outcome, cancel) {
            (Outcome::Complete { result }, _) => {
                ready(self.complete(queue, &settlement.leased, task, result.as_ref()))?;
                return Ok(Settled::Recorded);
            }
            (Outcome::Drop, _) => {
                ready(self.forget(queue, task))?;
                return Ok(Settled::Recorded);
            }
            (_, Some(reason)) => {
                self.archive_cancelled(queue, settlement, &reason)?;
                return Ok(Settled::Cancelled);
            }
            _ => {}
        }
        if !settlement.is_unchanged() {
            ready(self.keep_changes(queue, &settlement.leased, task, None))?;
        }
        if matches!(
            settlement.outcome,
            Outcome::Snooze { .. } | Outcome::Release
        ) {
            ready(self.retake_lock(queue, task))?;
        }
        match &settlement.outcome {
            Outcome::Archive => ready(self.archive(queue, task))?,
            Outcome::Retry { delay } if self.now + *delay > self.now => {
                ready(self.wait_until(queue, id, state::RETRY, self.now + *delay))?
            }
            Outcome::Snooze { delay } if !delay.is_zero() => {
                ready(self.wait_until(queue, id, state::SCHEDULED, self.now + *delay))?
            }
            outcome => {
                let is_first = matches!(outcome, Outcome::Release);
                ready(self.make_pending(queue, task, is_first))?
            }
        }
        Ok(Settled::Recorded)
    }

    /// Archives a task that is in no list, with a failure for its cancellation.
    fn archive_cancelled(
        &mut self,
        queue: usize,
        settlement: &Settlement,
        reason: &str,
    ) -> Result<(), Fault> {
        let cancelled = settlement.envelope.cancelled(reason, self.now);
        ready(self.keep_changes(queue, &settlement.leased, &cancelled, None))?;
        ready(self.archive(queue, &cancelled))
    }

    /// Deletes what was reported about an active task. Returns the reason of a requested cancellation.
    fn forget_running(&mut self, queue: i64, id: Id<'_>) -> Result<Option<String>, Fault> {
        if !ready(self.has(Side::Running))? {
            return Ok(None);
        }
        let cancel = "select cancel from asynqueue_running where queue = ?1 and id = ?2";
        let mut cancel = self.sql.0.prepare_cached(cancel)?;
        let cancel = cancel
            .query_row(params![queue, id], |row| row.get(0))
            .optional()?;
        if cancel.is_some() {
            let forget = "delete from asynqueue_running where queue = ?1 and id = ?2";
            self.sql
                .0
                .prepare_cached(forget)?
                .execute(params![queue, id])?;
        }
        Ok(cancel.flatten())
    }
}
