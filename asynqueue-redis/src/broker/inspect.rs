//! Inspecting queues: their statistics, and tasks by id.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Apart, Broker, BrokerError, HourStats, LeaseInfo, QueueStats, TaskInfo, Version},
    process::Progress,
    task::{Envelope, Name, TaskId, TaskRef, TaskState, Timestamp},
};
use bytes::Bytes;
use redis::Value;
use sha1_smol::Sha1;

use super::{MAX_CHUNK, RedisBroker, groups::read_member, queue::Queue};
use crate::{reply, script};

/// A task as it was found.
pub(super) struct Found {
    pub(super) envelope: Arc<Envelope>,
    /// The envelope as stored.
    pub(super) bytes: Vec<u8>,
    pub(super) state: TaskState,
    at: Option<Timestamp>,
    since: Option<Timestamp>,
    apart: Option<Apart>,
    lease: Option<LeaseInfo>,
    progress: Option<Progress>,
    result: Option<Bytes>,
}

impl From<Found> for TaskInfo {
    fn from(found: Found) -> Self {
        let version = version(found.state, &found.bytes);
        let mut info = Self::new(found.envelope, found.state, version);
        info.at = found.at;
        info.since = found.since;
        info.apart = found.apart;
        info.lease = found.lease;
        info.progress = found.progress;
        info.result = found.result;
        info
    }
}

/// The number of hash slots in a Cluster.
const SLOTS: u16 = 16_384;

impl RedisBroker {
    /// Returns the names of all queues.
    pub(super) async fn known_queues(&self) -> Result<Vec<Name>, BrokerError> {
        let mut command = redis::cmd("SMEMBERS");
        command.arg(self.queues_key());
        let names = match self.command(&command).await? {
            Value::Set(names) => names,
            other => reply::array(other)?,
        };
        let names = names
            .into_iter()
            .map(|name| Ok(Name::from(reply::text(name)?)));
        let mut names = names.collect::<Result<Vec<_>, BrokerError>>()?;
        names.sort_unstable();
        Ok(names)
    }

    /// The slot of a queue, in a Cluster.
    pub(super) fn slot_of(&self, queue: &Name) -> Option<String> {
        let slot = crc16::State::<crc16::XMODEM>::calculate(queue.as_bytes()) % SLOTS;
        self.link().is_cluster().then(|| format!("slot {slot}"))
    }

    /// Looks up tasks of any queues.
    pub(super) async fn look_all(
        &self,
        tasks: &[TaskRef],
    ) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        let tasks = tasks.iter().collect();
        self.each_queue(
            tasks,
            |task: &&TaskRef| &task.queue,
            |queue, tasks| async move {
                let ids: Vec<_> = tasks.into_iter().map(|task| task.id.clone()).collect();
                let found = self.look(&queue, &ids).await?.into_iter();
                Ok(found.map(|found| found.map(TaskInfo::from)).collect())
            },
        )
        .await
    }

    pub(super) async fn history_of(
        &self,
        name: &Name,
        since: Timestamp,
    ) -> Result<Vec<HourStats>, BrokerError> {
        let queue = self.queue(name);
        let now = self.now().as_millis() / HourStats::MILLIS;
        let kept = now.saturating_sub(HourStats::KEPT);
        let oldest = kept.max(since.as_millis() / HourStats::MILLIS);
        let mut hours: BTreeMap<u64, HourStats> = BTreeMap::new();
        for (field, count) in self.hours_of(&queue, oldest, now).await? {
            let hour = field.get(1..).and_then(|hour| hour.parse::<u64>().ok());
            let count = std::str::from_utf8(&count).ok();
            let (Some(hour), Some(count)) = (hour, count.and_then(|count| count.parse().ok()))
            else {
                continue;
            };
            if hour < oldest {
                continue;
            }
            let stats = hours.entry(hour).or_default();
            stats.start = Timestamp::from_millis(hour * HourStats::MILLIS);
            match field.as_bytes().first() {
                Some(b's') => stats.succeeded = count,
                Some(b'l') => stats.lost = count,
                _ => stats.failed = count,
            }
        }
        Ok(hours.into_values().collect())
    }

    /// The counts of the requested hours, or of all hours if many are requested.
    async fn hours_of(
        &self,
        queue: &Queue,
        oldest: u64,
        now: u64,
    ) -> Result<Vec<(String, Vec<u8>)>, BrokerError> {
        // One more, because the clock of this process may be behind.
        let hours = oldest..=now + 1;
        if hours.clone().count() > 48 {
            return self.hash(&queue.keys.hours).await;
        }
        let fields: Vec<_> = hours
            .flat_map(|hour| ["s", "f", "l"].map(|kind| format!("{kind}{hour}")))
            .collect();
        let mut command = redis::cmd("HMGET");
        command.arg(&queue.keys.hours).arg(&fields);
        let counts = reply::array(self.command(&command).await?)?.into_iter();
        let counts = counts
            .map(reply::some_bytes)
            .collect::<Result<Vec<_>, _>>()?;
        let fields = fields.into_iter().zip(counts);
        Ok(fields
            .filter_map(|(field, count)| Some((field, count?)))
            .collect())
    }

    /// The memory of a queue's keys. `None` if this Redis does not report it.
    pub(super) async fn memory_of(&self, name: &Name) -> Result<Option<u64>, BrokerError> {
        let queue = self.queue(name);
        let call = script::memory::call(
            script::memory::Keys {
                all: &queue.keys.all(),
            },
            script::memory::Args {},
        );
        match call.send(self.link()).await {
            Ok(bytes) => reply::number(bytes).map(Some),
            Err(BrokerError::Protocol(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn stats_of(&self, name: &Name) -> Result<QueueStats, BrokerError> {
        let queue = self.queue(name);
        let not_after = self.script_clock();
        let call = script::stats::call(&queue.keys, script::stats::Args { not_after });
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let mut number = || reply::number(reply::next(&mut answer)?);
        let now = Timestamp::from_millis(number()?);
        self.note_time(now);
        let paused = !reply::text(reply::next(&mut answer)?)?.is_empty();
        let mut number = || reply::number(reply::next(&mut answer)?);
        let (succeeded, failed, lost) = (number()?, number()?, number()?);
        let repaired = number()?;
        let (trimmed_by_count, trimmed_by_age) = (number()?, number()?);
        let last_trimmed = reply::some_time(reply::next(&mut answer)?)?;
        let max = reply::some_number(reply::next(&mut answer)?)?;
        let mut number = || reply::number(reply::next(&mut answer)?);
        let mut stats = QueueStats::default();
        stats.succeeded = succeeded;
        stats.failed = failed;
        stats.lost = lost;
        stats.repaired = repaired;
        stats.paused = paused;
        let archive = &mut stats.archive;
        (archive.max, archive.last_trimmed) = (max, last_trimmed);
        archive.trimmed_by_count = trimmed_by_count;
        archive.trimmed_by_age = trimmed_by_age;
        for state in [
            TaskState::Scheduled,
            TaskState::Pending,
            TaskState::Active,
            TaskState::Retry,
            TaskState::Completed,
            TaskState::Archived,
            TaskState::Aggregating,
        ] {
            let count = number()?;
            if count > 0 {
                stats.counts.insert(state, count);
            }
        }
        let since = reply::text(reply::next(&mut answer)?)?;
        let (id, envelope) = (reply::next(&mut answer)?, reply::next(&mut answer)?);
        let (id, envelope) = (
            reply::text(id)?,
            reply::some_bytes(envelope)?.unwrap_or_default(),
        );
        if !envelope.is_empty() {
            let since = match since.as_str() {
                "" => queue.envelope(&id, envelope)?.either().enqueued_at,
                since => reply::time(since)?,
            };
            stats.latency = now.since(since).min(Duration::from_millis(now.as_millis()));
        }
        Ok(stats)
    }

    /// Looks up tasks of one queue.
    pub(super) async fn look(
        &self,
        queue: &Queue,
        ids: &[TaskId],
    ) -> Result<Vec<Option<Found>>, BrokerError> {
        let mut found = Vec::with_capacity(ids.len());
        while found.len() < ids.len() {
            let chunk = &ids[found.len()..][..MAX_CHUNK.min(ids.len() - found.len())];
            let bytes = self.0.answer_bytes;
            let mut call = script::look::call(&queue.keys, script::look::Args { bytes });
            for id in chunk {
                call.row(script::look::Task { id: id.as_str() });
            }
            let answer = reply::array(call.send(self.link()).await?)?;
            // As many as fit into a response, at least one.
            let count = (answer.len() / FOUND_PARTS).max(1);
            let mut answer = answer.into_iter();
            for id in chunk.iter().take(count) {
                found.push(read_found(queue, id, &mut answer)?);
            }
        }
        Ok(found)
    }
}

/// The version of a task with these bytes, as scripts compute it too.
fn version(state: TaskState, bytes: &[u8]) -> Version {
    let mut sha1 = Sha1::new();
    sha1.update(state.as_str().as_bytes());
    sha1.update(b"\n");
    sha1.update(bytes);
    let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _] = sha1.digest().bytes();
    Version(u64::from_be_bytes(first))
}

/// How many values describe where a task is.
const FOUND_PARTS: usize = 8;

fn read_found(
    queue: &Queue,
    id: &TaskId,
    answer: &mut impl Iterator<Item = Value>,
) -> Result<Option<Found>, BrokerError> {
    let state = reply::text(reply::next(answer)?)?;
    let time = reply::some_time(reply::next(answer)?)?;
    let lease = reply::text(reply::next(answer)?)?;
    let worker = reply::text(reply::next(answer)?)?;
    let bytes = reply::bytes(reply::next(answer)?)?;
    let result = reply::some_bytes(reply::next(answer)?)?;
    let progress = reply::some_bytes(reply::next(answer)?)?;
    let more = reply::text(reply::next(answer)?)?;
    let Some(state) = TaskState::ALL
        .into_iter()
        .find(|known| known.as_str() == state)
    else {
        return Ok(None);
    };
    let has_lease = !lease.is_empty();
    let envelope = queue.envelope(id.as_str(), bytes.clone())?.either();
    let (since, apart) = match state {
        TaskState::Pending if more.is_empty() => (Some(envelope.enqueued_at), None),
        TaskState::Pending => (Some(reply::time(&more)?), None),
        TaskState::Aggregating => read_member(&more, id).unzip(),
        _ => (None, None),
    };
    Ok(Some(Found {
        envelope,
        bytes,
        since,
        apart: apart.flatten(),
        state,
        at: time.filter(|_| {
            !matches!(
                state,
                TaskState::Pending | TaskState::Active | TaskState::Aggregating
            )
        }),
        lease: time
            .filter(|_| has_lease)
            .map(|until| LeaseInfo::new(worker.into(), until)),
        // A result written by a later version counts as absent.
        progress: progress.and_then(|bytes| rmp_serde::from_slice(&bytes).ok()),
        result: result.map(Bytes::from),
    }))
}
