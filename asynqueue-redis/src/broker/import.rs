//! Tasks and statistics that come from another store.

use std::{collections::HashSet, sync::Arc};

use asynqueue_core::{
    broker::{Broker, BrokerError, HourStats, Import, Imported, TaskPlace, Totals},
    task::{Name, TaskState, Timestamp, UniqueUntil},
};
use redis::Value;

use super::{MAX_CHUNK_BYTES, MAX_MILLIS, RedisBroker, groups::member_spec, queue::Queue};
use crate::{reply, script};

/// The limit of tasks in one call. Each takes several commands.
const MAX_CHUNK: usize = 200;

impl RedisBroker {
    pub(super) async fn import_all(
        &self,
        tasks: Vec<Import>,
    ) -> Result<Vec<Imported>, BrokerError> {
        let of_queue = |queue: Arc<Queue>, tasks: Vec<Import>| async move {
            self.list_queue(&queue).await?;
            let mut imported = Vec::with_capacity(tasks.len());
            while imported.len() < tasks.len() {
                let left = &tasks[imported.len()..];
                imported.extend(self.import_chunk(&queue, &left[..chunk(left)]).await?);
            }
            Ok(imported)
        };
        self.each_queue(tasks, |task| &task.envelope.queue, of_queue)
            .await
    }

    async fn import_chunk(
        &self,
        queue: &Queue,
        tasks: &[Import],
    ) -> Result<Vec<Imported>, BrokerError> {
        let lane = queue.changes.next();
        let args = script::import::Args {
            not_after: self.script_clock(),
            publish: self.link().publish_command(),
            lane: lane.name(),
            number: lane.number(),
        };
        let mut call = script::import::call(&queue.keys, args);
        let now = self.now();
        tasks.iter().for_each(|task| write(&mut call, task, now));
        let answer = call.send_durably(self.link(), self.0.durability).await?;
        let answer = reply::text(answer)?;
        lane.answered();
        let imported: Vec<_> = answer.chars().filter_map(imported).collect();
        if imported.len() != tasks.len() {
            let problem = format!("unexpected response to {} imports: `{answer}`", tasks.len());
            return Err(BrokerError::protocol(problem));
        }
        Ok(imported)
    }

    pub(super) async fn absorb_in(
        &self,
        name: &Name,
        id: &Name,
        totals: &Totals,
    ) -> Result<bool, BrokerError> {
        let queue = self.queue(name);
        self.list_queue(&queue).await?;
        let archive = &totals.archive;
        let text = |number: Option<u64>| number.map_or_else(String::new, |n| n.to_string());
        let args = script::absorb::Args {
            not_after: self.script_clock(),
            id: id.as_str(),
            succeeded: totals.succeeded,
            failed: totals.failed,
            lost: totals.lost,
            by_count: archive.trimmed_by_count,
            by_age: archive.trimmed_by_age,
            last: text(archive.last_trimmed.map(Timestamp::as_millis)),
            max: text(archive.max),
        };
        let mut call = script::absorb::call(&queue.keys, args);
        for hour in &totals.hours {
            let number = hour.start.as_millis() / HourStats::MILLIS;
            let counts = [('s', hour.succeeded), ('f', hour.failed), ('l', hour.lost)];
            for (kind, count) in counts {
                let field = format!("{kind}{number}");
                call.row(script::absorb::Hour { field, count });
            }
        }
        let answer = call.send_durably(self.link(), self.0.durability).await?;
        Ok(answer == Value::Int(1))
    }
}

impl RedisBroker {
    /// Whether a queue does not remember the id of statistics.
    pub(super) async fn has_not_absorbed(
        &self,
        name: &Name,
        id: &Name,
    ) -> Result<bool, BrokerError> {
        let queue = self.queue(name);
        let mut command = redis::cmd("HEXISTS");
        command.arg(&queue.keys.stats).arg(format!("absorbed:{id}"));
        Ok(self.command(&command).await? == Value::Int(0))
    }
}

/// How many of the tasks go into one call. No task occurs twice, because each is compared with its state before the
/// call.
fn chunk(tasks: &[Import]) -> usize {
    let (mut bytes, mut ids) = (0, HashSet::new());
    for (count, task) in tasks.iter().take(MAX_CHUNK).enumerate() {
        bytes += task.envelope.payload.len();
        if let TaskPlace::Completed { result, .. } = &task.place {
            bytes += result.as_ref().map_or(0, |result| result.len());
        }
        let is_first = ids.insert(&task.envelope.id);
        if count > 0 && (bytes > MAX_CHUNK_BYTES || !is_first) {
            return count;
        }
    }
    tasks.len().min(MAX_CHUNK)
}

fn write(call: &mut script::Call<script::import::Of>, task: &Import, now: Timestamp) {
    let envelope = &task.envelope;
    let at = |time: Timestamp| time.as_millis().min(MAX_MILLIS).to_string();
    let (mut time, mut result, mut group) = (String::new(), Vec::new(), None);
    match &task.place {
        TaskPlace::Pending { since } if *since == envelope.enqueued_at => {}
        TaskPlace::Pending { since: moment }
        | TaskPlace::Scheduled { due: moment }
        | TaskPlace::Retry { due: moment }
        | TaskPlace::Archived { at: moment } => time = at(*moment),
        TaskPlace::Aggregating { since, apart } => {
            time = at(*since);
            group = member_spec(envelope, apart.as_ref());
        }
        TaskPlace::Completed {
            until,
            result: kept,
        } => {
            time = at(*until);
            if let Some(kept) = kept {
                result.push(b'r');
                result.extend_from_slice(kept);
            }
        }
    }
    let state = match task.place.state() {
        // Without the limits of a group it cannot wait in one.
        TaskState::Aggregating if group.is_none() => "pending",
        state => state.as_str(),
    };
    let lock = envelope.unique.as_ref();
    let ends = task
        .lock(now)
        .map_or_else(String::new, |(_, ends)| at(ends));
    let is_window = lock.is_some_and(|lock| lock.until == UniqueUntil::Window);
    call.row(script::import::Task {
        id: envelope.id.as_str(),
        version: task
            .replaces
            .map_or_else(String::new, |version| format!("{:016x}", version.0)),
        envelope: envelope.to_bytes(),
        state,
        time,
        result,
        priority: envelope.options.priority,
        lock: lock.map_or("", |lock| lock.key.as_str()),
        ends,
        window: if is_window { "w" } else { "" },
        group: group.unwrap_or_default(),
    });
}

fn imported(answer: char) -> Option<Imported> {
    match answer {
        'y' => Some(Imported::Done),
        'e' => Some(Imported::Exists),
        '?' => Some(Imported::Changed),
        _ => None,
    }
}
