//! Versions of the parts of a page. The script refreshes a part when its version differs from the current one.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use asynqueue_core::{
    broker::{ScheduleEntry, ServerInfo, TaskInfo},
    inspector::{Inspector, QueueInfo},
    task::{TaskState, Timestamp},
};

use super::{attention::Concern, jobs::Job};

/// A hash of the displayed data.
pub(super) fn version(of: impl std::fmt::Debug) -> String {
    let mut hasher = DefaultHasher::new();
    format!("{of:?}").hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

/// Changes each minute, like texts such as "2m ago".
pub(super) fn version_of_minute(now: Timestamp) -> String {
    (now.as_millis() / 60_000).to_string()
}

/// Changes when a server reports something, and when one is lost.
pub(super) fn version_of_servers(servers: &[ServerInfo], now: Timestamp) -> String {
    let lost = servers.iter().filter(|server| server.is_lost(now)).count();
    version((servers, lost))
}

/// Changes when a task joins a group, or when a group becomes a task.
pub(super) fn version_of_groups(queues: &[QueueInfo]) -> String {
    let sizes = queues.iter().map(|queue| {
        let size = queue.stats.count(TaskState::Aggregating);
        (&queue.name, size)
    });
    version(sizes.filter(|(_, size)| *size > 0).collect::<Vec<_>>())
}

/// Changes when an entry ticks or is changed.
pub(super) fn version_of_schedules(entries: &[ScheduleEntry]) -> String {
    let shown = entries
        .iter()
        .map(|entry| (&entry.name, &entry.rule, entry.next, entry.paused));
    version(shown.collect::<Vec<_>>())
}

/// Changes with what a page shows of a task. It does not depend on redacted values.
pub(super) fn version_of_task(inspector: &Inspector, task: Option<&TaskInfo>) -> String {
    let shown = task.map(|task| {
        let envelope = &task.envelope;
        (
            (task.state, task.at, &task.lease, &task.progress),
            (envelope.attempts, envelope.failures(), envelope.completed()),
            (inspector.payload(task), inspector.result(task)),
        )
    });
    version(shown)
}

/// Changes when a task of the queue is added, removed or moved.
pub(super) fn version_of_tasks(queue: &QueueInfo) -> String {
    let stats = &queue.stats;
    version((&stats.counts, stats.succeeded, stats.failed, stats.lost))
}

/// Changes when a queue appears, disappears, is paused or is resumed.
pub(super) fn version_of_queues(queues: &[QueueInfo]) -> String {
    let shown = queues.iter().map(|queue| (&queue.name, queue.stats.paused));
    version(shown.collect::<Vec<_>>())
}

/// Changes when the problems change, and each minute.
pub(super) fn version_of_attention(concerns: &[Concern], now: Timestamp) -> String {
    let keys = concerns.iter().map(Concern::key);
    version((keys.collect::<Vec<_>>(), version_of_minute(now)))
}

/// Changes when a job appears or disappears.
pub(super) fn version_of_jobs(jobs: &[Arc<Job>]) -> String {
    version(jobs.iter().map(|job| &job.id).collect::<Vec<_>>())
}

/// Changes with the displayed payload.
pub(super) fn version_of_payload(inspector: &Inspector, info: &TaskInfo) -> String {
    version(inspector.payload(info))
}

#[cfg(test)]
mod tests {
    use asynqueue_core::{
        broker::Version,
        codec::{CodecName, Json},
        memory::MemoryBroker,
        task::{Envelope, TaskId},
    };
    use serde_json::{Value, json};

    use super::*;

    /// Otherwise viewers could verify guesses.
    #[test]
    fn the_version_of_a_task_does_not_depend_on_redacted_values() {
        let version = |payload: Value| {
            let bytes = payload.to_string().into_bytes().into();
            let codec = CodecName::of::<Json>();
            let id = TaskId::new("a").expect("an id");
            let task = TaskInfo::new(
                Arc::new(Envelope::new(id, "mail:send", codec, bytes)),
                TaskState::Pending,
                Version::default(),
            );
            let inspector = Inspector::new(MemoryBroker::new()).redact(["pin"]);
            version_of_task(&inspector, Some(&task))
        };
        let shown = version(json!({ "pin": "4711", "to": "ada" }));
        assert_eq!(shown, version(json!({ "pin": "1234", "to": "ada" })));
        assert_ne!(shown, version(json!({ "pin": "4711", "to": "eve" })));
    }
}
