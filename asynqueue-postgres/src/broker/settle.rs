//! Recording outcomes.

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use asynqueue_core::{
    broker::{
        BrokerError, Each, Finished, LeaseToken, Outcome, Settled, Settlement, Signal,
        kit::{Announced, promised},
    },
    codec::CodecName,
    task::{Envelope, EnvelopeChanges, UniqueUntil},
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    PostgresBroker,
    lease::{place_of, queues_of},
};
use crate::{
    link::Event,
    sql::{
        Call, Value,
        values::{any, blobs, duration, id_bytes, ints, longs, shorts, texts, timestamp},
    },
};

const SETTLE: &str = "select n, outcome, reason, awaited, due, is_open, head from asynqueue.settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
     $11, $12, $13, $14, $15, $16, $17, $18)";

/// What happens to a task, as the function has it.
mod kind {
    pub(super) const COMPLETED: i16 = 1;
    pub(super) const KEPT: i16 = 2;
    pub(super) const RETRY: i16 = 3;
    pub(super) const SNOOZED: i16 = 4;
    pub(super) const LAST: i16 = 5;
    pub(super) const FIRST: i16 = 6;
    pub(super) const ARCHIVED: i16 = 7;
    pub(super) const DROPPED: i16 = 8;
}

/// An outcome, as the function has it.
struct Row<'s> {
    settlement: &'s Settlement,
    kind: i16,
    waits: Duration,
    /// Archived for a cancellation that was requested.
    is_cancelled: bool,
    task: Arc<Envelope>,
}

impl<'s> Row<'s> {
    fn of(settlement: &'s Settlement) -> Self {
        let task = &settlement.envelope;
        let (kind, waits) = match &settlement.outcome {
            Outcome::Complete { .. } if task.options.retention.is_zero() => {
                (kind::COMPLETED, Duration::ZERO)
            }
            Outcome::Complete { .. } => (kind::KEPT, task.options.retention),
            Outcome::Retry { delay } if !delay.is_zero() => (kind::RETRY, *delay),
            Outcome::Snooze { delay } if !delay.is_zero() => (kind::SNOOZED, *delay),
            Outcome::Retry { .. } | Outcome::Snooze { .. } => (kind::LAST, Duration::ZERO),
            Outcome::Release => (kind::FIRST, Duration::ZERO),
            Outcome::Archive => (kind::ARCHIVED, Duration::ZERO),
            Outcome::Drop => (kind::DROPPED, Duration::ZERO),
        };
        Self {
            settlement,
            kind,
            waits,
            is_cancelled: false,
            task: Arc::clone(task),
        }
    }

    /// The same, once its cancellation is known.
    fn cancelled(
        settlement: &'s Settlement,
        reason: &str,
        now: asynqueue_core::task::Timestamp,
    ) -> Self {
        Self {
            settlement,
            kind: kind::ARCHIVED,
            waits: Duration::ZERO,
            is_cancelled: true,
            task: Arc::new(settlement.envelope.cancelled(reason, now)),
        }
    }

    fn result(&self) -> Option<&Bytes> {
        match &self.settlement.outcome {
            Outcome::Complete { result } => result.as_ref(),
            _ => None,
        }
    }

    fn counts_as_failure(&self) -> bool {
        matches!(
            self.settlement.outcome,
            Outcome::Retry { .. } | Outcome::Archive
        )
    }

    /// The lock that a released or snoozed task takes again, which it released at its start.
    fn lock(&self) -> Option<&asynqueue_core::task::UniqueLock> {
        let is_back = matches!(
            self.settlement.outcome,
            Outcome::Snooze { .. } | Outcome::Release
        );
        let lock = self
            .task
            .unique
            .as_deref()
            .filter(|_| is_back && !self.is_cancelled);
        lock.filter(|lock| lock.until == UniqueUntil::Start)
    }

    fn kept(&self) -> Kept {
        let is_kept = !matches!(self.kind, kind::COMPLETED | kind::DROPPED);
        if !is_kept || (Arc::ptr_eq(&self.settlement.leased, &self.task) && self.kind != kind::KEPT)
        {
            return Kept::default();
        }
        kept(&self.settlement.leased, &self.task)
    }

    fn end(&self) -> Option<Finished> {
        match self.kind {
            kind::COMPLETED | kind::KEPT => Some(Finished::Completed {
                result: self.result().cloned(),
                codec: self.task.codec.clone(),
            }),
            kind::ARCHIVED => Some(Finished::Archived {
                failure: self.task.last_failure().cloned().map(Box::new),
            }),
            kind::DROPPED => Some(Finished::Gone),
            _ => None,
        }
    }
}

/// What is stored of a task after an attempt.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    pub(crate) changes: Option<Vec<u8>>,
    pub(crate) envelope: Option<Vec<u8>>,
}

/// The changes of an attempt are stored beside the envelope, which is not written again unless something else in it has
/// changed.
pub(crate) fn kept(leased: &Envelope, task: &Envelope) -> Kept {
    // The substitute for an envelope that cannot be read has nothing to keep.
    if task.codec == CodecName::unreadable() || leased == task {
        return Kept::default();
    }
    let changes = EnvelopeChanges::of(task);
    let bytes = changes.to_bytes();
    let mut expected = leased.clone();
    expected.apply(changes);
    match expected == *task {
        true => Kept {
            changes: Some(bytes.to_vec()),
            envelope: None,
        },
        false => Kept {
            changes: None,
            envelope: Some(task.to_bytes()),
        },
    }
}

impl PostgresBroker {
    pub(super) async fn settle_all(
        &self,
        settlements: &[Settlement],
    ) -> Result<Each<Settled>, BrokerError> {
        self.link().open_or_closed()?;
        let outcomes = promised::outcomes(settlements, self.link().now());
        let mut results: Each<Settled> = Vec::with_capacity(settlements.len());
        let mut rest = &*outcomes;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at(length(rest));
            match self.settle_rows(chunk.iter().map(Row::of).collect()).await {
                Ok(settled) => results.extend(settled),
                // Sent again unchanged, these are recognized if they were recorded.
                Err(error) if results.is_empty() => return Err(error),
                // What was recorded before must not look refused when it is sent again.
                Err(error) => {
                    results.resize(settlements.len(), Err(error));
                    break;
                }
            }
            rest = later;
        }
        promised::forget(settlements, &mut results);
        Ok(results)
    }

    async fn settle_rows(&self, rows: Vec<Row<'_>>) -> Result<Each<Settled>, BrokerError> {
        let mut results: Each<Settled> = vec![Ok(Settled::Recorded); rows.len()];
        // The cancellation of some may have been recorded without a response: their leases have ended then.
        let (mut blocked, others) = self.0.cancelling.split(&rows);
        if !others.is_empty() {
            let mut settled = vec![Settled::Recorded; others.len()];
            let sent: Vec<_> = others.iter().map(|place| &rows[*place]).collect();
            let found = self.settle_once(&sent, &mut settled).await?;
            let found = found
                .into_iter()
                .map(|(place, reason)| (others[place], reason));
            blocked.extend(found);
            for (place, one) in others.iter().zip(settled) {
                results[*place] = Ok(one);
            }
        }
        blocked.sort_unstable();
        self.settle_cancelled(&rows, blocked, &mut results).await;
        Ok(results)
    }

    /// Archives tasks whose cancellation was requested. Those of a queue are sent together, as they are sent again.
    async fn settle_cancelled(
        &self,
        rows: &[Row<'_>],
        mut blocked: Vec<(usize, String)>,
        results: &mut Each<Settled>,
    ) {
        let now = self.link().now();
        let queue = |(place, _): &(usize, String)| &rows[*place].task.queue;
        while let Some(first) = blocked.first().map(queue) {
            let (part, rest): (Vec<_>, _) =
                { blocked.iter().cloned() }.partition(|one| queue(one) == first);
            let again: Vec<_> = part
                .iter()
                .map(|(place, reason)| Row::cancelled(rows[*place].settlement, reason, now))
                .collect();
            let mut cancelled = vec![Settled::Cancelled; again.len()];
            let sent: Vec<_> = again.iter().collect();
            let outcome = self.settle_once(&sent, &mut cancelled).await.map(drop);
            let tokens = part
                .iter()
                .map(|(place, reason)| (rows[*place].settlement.token, reason));
            self.0.cancelling.note(tokens, outcome.is_ok());
            for ((place, _), one) in part.iter().zip(cancelled) {
                results[*place] = outcome.clone().map(|()| one);
            }
            blocked = rest;
        }
    }

    /// Records outcomes. Returns those for which a cancellation was requested, with its reason.
    async fn settle_once(
        &self,
        rows: &[&Row<'_>],
        settled: &mut [Settled],
    ) -> Result<Vec<(usize, String)>, BrokerError> {
        let call = call(rows, self.link().fixed());
        let lane = self.link().changes.again_or_next(hash(rows));
        let found = self.link().call_in(lane, call).await?;
        let (mut blocked, mut events) = (Vec::new(), Vec::new());
        for found in &found {
            let place = place_of(found)?;
            let Some(row) = rows.get(place) else { continue };
            let (outcome, reason, awaited): (i16, Option<String>, bool) =
                (found.get(1), found.get(2), found.get(3));
            if outcome == 2 {
                blocked.push((place, reason.unwrap_or_default()));
                continue;
            }
            match outcome {
                0 => settled[place] = Settled::Stale,
                3 => settled[place] = Settled::Completed,
                _ => {}
            }
            if outcome != 1 {
                // What a handler has completed was announced when it was committed.
                continue;
            }
            let task = row.task.task_ref();
            if let (true, Some(end)) = (awaited, row.end()) {
                events.push(Event::Now(Announced::Ended { task, end }));
            } else if found.get(5) {
                events.push(Event::Pending(task.queue, found.get(6)));
            } else if let Some(due) = found.get::<_, Option<i64>>(4) {
                let due = Signal::Due(task.queue.clone(), timestamp(due));
                events.push(Event::signal(&task.queue, due));
            }
        }
        self.link().announce(events);
        Ok(blocked)
    }
}

/// The limit of reasons that are remembered.
const MAX_CANCELLING: usize = 10_000;

/// Leases of cancelled tasks whose outcome was sent without a response, with the reasons of the cancellations.
#[derive(Debug, Default)]
pub(super) struct Cancelling(Mutex<HashMap<LeaseToken, String>>);

impl Cancelling {
    /// The places of those that are remembered, with their reasons, and the places of the others.
    fn split(&self, rows: &[Row<'_>]) -> (Vec<(usize, String)>, Vec<usize>) {
        let reasons = self.0.lock();
        // Usually there are none.
        if reasons.is_empty() {
            return (Vec::new(), (0..rows.len()).collect());
        }
        let (mut known, mut others) = (Vec::new(), Vec::new());
        for (place, row) in rows.iter().enumerate() {
            match reasons.get(&row.settlement.token) {
                Some(reason) => known.push((place, reason.clone())),
                None => others.push(place),
            }
        }
        (known, others)
    }

    /// Remembers these, or forgets them if their outcome is known.
    fn note<'r>(&self, leases: impl Iterator<Item = (LeaseToken, &'r String)>, is_known: bool) {
        let mut reasons = self.0.lock();
        for (token, reason) in leases {
            if is_known {
                reasons.remove(&token);
            } else if reasons.len() < MAX_CANCELLING {
                reasons.insert(token, reason.clone());
            }
        }
    }
}

/// How many of these outcomes can be recorded in one call: each is of another lease.
fn length(settlements: &[Settlement]) -> usize {
    let mut tokens = HashSet::new();
    let few = &settlements[..settlements.len().min(super::MAX_CHUNK)];
    let repeated = few.iter().position(|one| !tokens.insert(one.token));
    repeated.unwrap_or(few.len())
}

/// Distinguishes calls: which leases end, and how. A call that is taken for another one would look recorded.
///
/// The times of failures are left out: one that the store adds has another time whenever the outcome is sent again.
fn hash(rows: &[&Row<'_>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for row in rows {
        let lease = (row.settlement.token.0, row.settlement.only_if_expired);
        (lease, row.kind, row.waits, row.is_cancelled).hash(&mut hasher);
        let failure = row.task.last_failure();
        let failure = failure.map(|last| (last.kind, &last.message));
        (row.task.attempts, failure, row.result()).hash(&mut hasher);
    }
    hasher.finish()
}

fn call(rows: &[&Row<'_>], fixed: Value) -> Call {
    let (names, of) = queues_of(rows.iter().map(|row| &row.settlement.envelope.queue));
    let (mut changes, mut envelopes) = (Vec::new(), Vec::new());
    for row in rows {
        let kept = row.kept();
        changes.push(kept.changes);
        envelopes.push(kept.envelope);
    }
    let results = rows
        .iter()
        .map(|row| row.result().map(|result| result.to_vec()));
    let keys = rows
        .iter()
        .map(|row| Some(row.lock()?.key.as_str().to_owned()));
    let ttls = rows.iter().map(|row| Some(duration(row.lock()?.ttl)));
    Call::new(
        SETTLE,
        [
            texts(&names),
            ints(of),
            blobs(rows.iter().map(|row| id_bytes(&row.settlement.envelope.id))),
            longs(rows.iter().map(|row| row.settlement.token.0 as i64)),
            Value::Flags(
                rows.iter()
                    .map(|row| row.settlement.only_if_expired)
                    .collect(),
            ),
            Value::Flags(rows.iter().map(|row| row.is_cancelled).collect()),
            shorts(rows.iter().map(|row| row.kind)),
            longs(rows.iter().map(|row| duration(row.waits))),
            Value::Blobs(any(changes)),
            Value::Blobs(any(results.collect())),
            Value::Blobs(any(envelopes)),
            Value::Flags(rows.iter().map(|row| row.counts_as_failure()).collect()),
            Value::Texts(any(keys.collect())),
            Value::Longs(any(ttls.collect())),
            fixed,
        ],
    )
}
