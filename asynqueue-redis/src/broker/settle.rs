//! Recording outcomes.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use asynqueue_core::{
    broker::{BrokerError, Each, Outcome, Settled, Settlement},
    codec::CodecName,
    task::{Envelope, UniqueUntil},
};

use super::{MAX_CHUNK, MAX_CHUNK_BYTES, RedisBroker, lease::member, millis, queue::Queue};
use crate::{reply, script};

impl RedisBroker {
    pub(super) async fn settle_all(&self, settlements: &[Settlement]) -> Each<Settled> {
        self.each_queue_by_itself(
            settlements.iter().collect(),
            |settlement: &&Settlement| &settlement.envelope.queue,
            |queue, settlements| async move {
                queue.wakeups.note_outcomes(&settlements);
                let records: Vec<_> = settlements.into_iter().map(Record::of).collect();
                self.settle_in(&queue, records).await
            },
        )
        .await
    }

    /// Settles the records of one queue, call after call, until one fails.
    async fn settle_in(&self, queue: &Queue, mut records: Vec<Record<'_>>) -> Each<Settled> {
        let mut answers = Vec::with_capacity(records.len());
        while answers.len() < records.len() {
            let left = &mut records[answers.len()..];
            let count = chunk(left);
            let chunk = &mut left[..count];
            let mut settled = vec![Ok(Settled::Recorded); count];
            match self.settle_some(queue, chunk, &mut settled).await {
                Ok(()) => answers.extend(settled),
                Err(error) => answers.resize(records.len(), Err(error)),
            }
        }
        answers
    }

    /// Settles records of one queue together. An error applies to all of them: as far as known, none was recorded.
    async fn settle_some(
        &self,
        queue: &Queue,
        records: &mut [Record<'_>],
        answers: &mut [Result<Settled, BrokerError>],
    ) -> Result<(), BrokerError> {
        let mut settled = vec![Settled::Recorded; records.len()];
        let mut cancelled = self.settle_chunk(queue, records, &mut settled).await?;
        cancelled.sort_unstable();
        let outcome = (self.settle_cancelled(queue, records, &cancelled, &mut settled)).await;
        for (answer, settled) in answers.iter_mut().zip(settled) {
            *answer = Ok(settled);
        }
        if let Err(error) = outcome {
            // The others were recorded, and must not look refused when these are sent again.
            for place in cancelled {
                answers[place] = Err(error.clone());
            }
        }
        Ok(())
    }

    /// Settles records with one call. Returns the indexes of the records that are not settled because their tasks are
    /// to be cancelled.
    async fn settle_chunk(
        &self,
        queue: &Queue,
        records: &[Record<'_>],
        settled: &mut [Settled],
    ) -> Result<Vec<usize>, BrokerError> {
        // Records that simply complete, which most do, come first and need only their lease names.
        let (simple, others): (Vec<_>, Vec<_>) =
            (0..records.len()).partition(|place| records[*place].is_simple());
        // A server repeats a settlement until it has a response. A recorded outcome without a response must not look
        // refused the next time.
        let lane = queue.changes.again_or_next(hash(records));
        let args = script::settle::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            publish: self.link().publish_command(),
            simple: simple.len(),
        };
        let mut call = script::settle::call(&queue.keys, args);
        for place in &simple {
            let record = &records[*place];
            call.row(script::settle::Simple {
                lease: record.member.as_str(),
                id: record.envelope.id.as_str(),
            });
        }
        for place in &others {
            records[*place].write(&mut call);
        }
        let answer = reply::text(call.send_durably(self.link(), self.0.durability).await?)?;
        lane.answered();
        let places: Vec<_> = simple.into_iter().chain(others).collect();
        let mut cancelled = Vec::new();
        for line in answer.lines() {
            let read = || {
                let (place, why) = line.split_once(' ')?;
                Some((*places.get(place.parse::<usize>().ok()?)?, why))
            };
            match read() {
                Some((place, "stale")) => settled[place] = Settled::Stale,
                Some((place, "cancel")) => cancelled.push(place),
                _ => {
                    let problem = format!("unexpected refusal: `{line}`");
                    return Err(BrokerError::protocol(problem));
                }
            }
        }
        Ok(cancelled)
    }

    /// Archives tasks that were cancelled on request, with a failure that gives the reason.
    async fn settle_cancelled(
        &self,
        queue: &Queue,
        records: &mut [Record<'_>],
        places: &[usize],
        settled: &mut [Settled],
    ) -> Result<(), BrokerError> {
        if places.is_empty() {
            return Ok(());
        }
        let mut command = redis::cmd("HMGET");
        command.arg(&queue.keys.cancels);
        for place in places {
            command.arg(records[*place].envelope.id.as_str());
        }
        let reasons = reply::array(self.command(&command).await?)?;
        let mut archived = Vec::with_capacity(places.len());
        for (place, reason) in places.iter().zip(reasons) {
            let reason = reply::some_bytes(reason)?.unwrap_or_default();
            let reason = String::from_utf8_lossy(&reason);
            let record = &records[*place];
            archived.push(Record {
                outcome: "cancelled",
                envelope: Arc::new(
                    record
                        .envelope
                        .cancelled(&reason, asynqueue_core::broker::Broker::now(self)),
                ),
                is_unchanged: false,
                member: record.member.clone(),
                millis: 0,
                ..*record
            });
        }
        let mut answers = vec![Settled::Cancelled; archived.len()];
        self.settle_chunk(queue, &archived, &mut answers).await?;
        for (place, answer) in places.iter().zip(answers) {
            settled[*place] = answer;
        }
        Ok(())
    }
}

/// Distinguishes changes: which leases end, and how. A change with the response of another would look recorded.
///
/// The times of failures are left out: one that the store adds has another time whenever the outcome is sent again.
fn hash(records: &[Record<'_>]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for record in records {
        let condition = record.only_if_expired;
        (record.outcome, &record.member, record.millis, condition).hash(&mut hasher);
        let envelope = &record.envelope;
        let last = envelope.last_failure();
        let failure = last.map(|last| (last.kind, &last.message));
        (envelope.attempts, failure, record.result).hash(&mut hasher);
    }
    hasher.finish()
}

/// How many of the records go into one call. No lease occurs twice.
fn chunk(records: &[Record<'_>]) -> usize {
    let (mut bytes, mut members) = (0, HashSet::with_capacity(records.len().min(MAX_CHUNK)));
    for (count, record) in records.iter().take(MAX_CHUNK).enumerate() {
        if bytes >= MAX_CHUNK_BYTES || !members.insert(record.member.as_str()) {
            return count;
        }
        if !record.is_simple() {
            let payload = &record.envelope.payload;
            bytes += if record.is_unchanged {
                0
            } else {
                payload.len()
            };
            bytes += record.result.map_or(0, <[u8]>::len);
        }
    }
    records.len().min(MAX_CHUNK)
}

/// A settlement as an argument of its script.
struct Record<'a> {
    outcome: &'static str,
    member: String,
    envelope: Arc<Envelope>,
    /// Whether the envelope is unchanged, and so equal to the stored one.
    is_unchanged: bool,
    only_if_expired: bool,
    has_failed: bool,
    /// How long the task is kept, or waits.
    millis: u64,
    result: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    fn of(settlement: &'a Settlement) -> Self {
        let envelope = &settlement.envelope;
        let (outcome, has_failed, wait) = match &settlement.outcome {
            Outcome::Complete { .. } => ("complete", false, envelope.options.retention),
            Outcome::Drop => ("drop", false, Default::default()),
            Outcome::Archive => ("archive", true, Default::default()),
            Outcome::Retry { delay } => ("retry", true, *delay),
            Outcome::Snooze { delay } => ("snooze", false, *delay),
            Outcome::Release => ("release", false, Default::default()),
        };
        let result = match &settlement.outcome {
            Outcome::Complete { result } => result.as_deref(),
            _ => None,
        };
        Self {
            outcome,
            member: member(settlement.token, envelope.id.as_str()),
            envelope: Arc::clone(envelope),
            is_unchanged: outcome != "complete" && settlement.is_unchanged(),
            only_if_expired: settlement.only_if_expired,
            has_failed,
            millis: millis(wait),
            result,
        }
    }

    /// Whether the task completes without anything to keep or follow, apart from what is done for every task.
    fn is_simple(&self) -> bool {
        self.outcome == "complete"
            && self.millis == 0
            && self.result.is_none()
            && self.envelope.unique.is_none()
            && !self.only_if_expired
    }

    /// What happens to the task's lock: `-` and its key to release it, its time to live, `:` and its key to take it
    /// again.
    fn lock(&self) -> String {
        let Some(lock) = &self.envelope.unique else {
            return String::new();
        };
        let ends = matches!(self.outcome, "complete" | "drop" | "archive" | "cancelled");
        let comes_back = matches!(self.outcome, "snooze" | "release");
        match lock.until {
            UniqueUntil::Start | UniqueUntil::Success if ends => format!("-{}", lock.key.as_str()),
            UniqueUntil::Start if comes_back => {
                format!("{}:{}", millis(lock.ttl), lock.key.as_str())
            }
            _ => String::new(),
        }
    }

    fn write(&self, call: &mut script::Call<script::settle::Of>) {
        let envelope = &self.envelope;
        let is_kept = !(self.outcome == "drop" || self.outcome == "complete" && self.millis == 0);
        // Unreadable bytes are kept for servers that can read them.
        let stays = self.is_unchanged
            || self.outcome == "snooze" && envelope.codec == CodecName::unreadable();
        call.row(script::settle::Other {
            lease: self.member.as_str(),
            id: envelope.id.as_str(),
            outcome: self.outcome,
            marks: match (self.only_if_expired, self.has_failed) {
                (true, true) => "xf",
                (true, false) => "x",
                (false, true) => "f",
                (false, false) => "",
            },
            envelope: if is_kept && !stays {
                envelope.to_bytes()
            } else {
                Vec::new()
            },
            millis: self.millis,
            lock: self.lock(),
            priority: envelope.options.priority,
            result: match self.result {
                Some(result) => [b"r", result].concat(),
                None => Vec::new(),
            },
        });
    }
}
