//! The names of keys: the one place that maps a queue to keys.

use asynqueue_core::{
    broker::{Series, Space},
    task::{Name, Timestamp},
};

/// The keys of one queue, all in one slot of a Cluster by their hash tag.
///
/// To spread a logical queue over several slots, give it several of these.
#[derive(Debug)]
pub(crate) struct QueueKeys {
    /// HASH id → envelope.
    pub(crate) tasks: String,
    /// LIST of ids: pending tasks without a priority, the next one at the right end.
    pub(crate) pending: String,
    /// ZSET id → priority and turn: pending tasks with a priority.
    pub(crate) urgent: String,
    /// ZSET token and id → lease end.
    pub(crate) active: String,
    /// ZSET id → due.
    pub(crate) scheduled: String,
    /// ZSET id → due.
    pub(crate) retry: String,
    /// ZSET id → when it was archived.
    pub(crate) archived: String,
    /// ZSET id → kept until.
    pub(crate) completed: String,
    /// HASH unique key → end and id of the holder.
    pub(crate) locks: String,
    /// ZSET unique key → end, of the locks in `locks`.
    pub(crate) lock_ends: String,
    /// HASH id → result.
    pub(crate) results: String,
    /// HASH counter → number.
    pub(crate) stats: String,
    /// HASH: paused, turns; names of workers of builds from before `workers`.
    pub(crate) meta: String,
    /// HASH id → priority, of tasks that have one.
    pub(crate) priorities: String,
    /// HASH id → pending since, if not since it was enqueued.
    pub(crate) since: String,
    /// HASH id → number of entries in `pending` left by deleted tasks.
    pub(crate) gone: String,
    /// HASH id → reason of the cancellation, of active tasks.
    pub(crate) cancels: String,
    /// HASH id → progress, of active tasks.
    pub(crate) progress: String,
    /// HASH id → until when a caller waits for its end.
    pub(crate) waiters: String,
    /// HASH id → limits and member, of tasks that wait in a group.
    pub(crate) aggregating: String,
    /// ZSET of members: group, time and id.
    pub(crate) grouped: String,
    /// ZSET group → due.
    pub(crate) groups: String,
    /// HASH hour → number of ended attempts.
    pub(crate) hours: String,
    /// HASH schedule entry → its last tick that enqueued a task here.
    pub(crate) fired: String,
    /// HASH lane → number, time and response of its last change.
    pub(crate) lanes: String,
    /// ZSET instance → since when its servers wait for tasks, to be woken.
    pub(crate) idle: String,
    /// STRING: the owner of the queue, with an expiry.
    pub(crate) owner: String,
    /// HASH id → token of its lease, while many tasks are active.
    pub(crate) leases: String,
    /// HASH tag → name of a worker.
    pub(crate) workers: String,
    /// STRING: lane and number of the last deletion of the queue, with an expiry.
    pub(crate) deleted: String,
    /// Channel of signals to all.
    pub(crate) events: String,
    /// Channel of signals to this instance alone.
    pub(crate) own_events: String,
    /// Channel of task ends that callers wait for.
    pub(crate) done: String,
}

impl QueueKeys {
    /// The keys as `instance` uses them, in database `db`.
    pub(crate) fn new(prefix: &str, db: i64, queue: &Name, instance: u64) -> Self {
        let key = |part: &str| format!("{prefix}:{{{queue}}}:{part}");
        // Keys belong to a database, but channels do not.
        let channel = |part: &str| match db {
            0 => key(part),
            db => format!("{}@{db}", key(part)),
        };
        let events = channel("events");
        Self {
            tasks: key("tasks"),
            pending: key("pending"),
            urgent: key("urgent"),
            active: key("active"),
            scheduled: key("scheduled"),
            retry: key("retry"),
            archived: key("archived"),
            completed: key("completed"),
            locks: key("locks"),
            lock_ends: key("lock_ends"),
            results: key("results"),
            stats: key("stats"),
            meta: key("meta"),
            priorities: key("priorities"),
            since: key("since"),
            gone: key("gone"),
            cancels: key("cancels"),
            progress: key("progress"),
            waiters: key("waiters"),
            aggregating: key("aggregating"),
            grouped: key("grouped"),
            groups: key("groups"),
            hours: key("hours"),
            fired: key("fired"),
            lanes: key("lanes"),
            idle: key("idle"),
            owner: key("owner"),
            leases: key("leases"),
            workers: key("workers"),
            deleted: key("deleted"),
            own_events: format!("{events}:{}", tag(instance)),
            events,
            done: channel("done"),
        }
    }
}

impl QueueKeys {
    /// All keys of the queue, its tasks and the waiters for their ends first. The note of its deletion is not among
    /// them.
    pub(crate) fn all(&self) -> [&str; 29] {
        [
            &self.tasks,
            &self.waiters,
            &self.pending,
            &self.urgent,
            &self.active,
            &self.scheduled,
            &self.retry,
            &self.archived,
            &self.completed,
            &self.locks,
            &self.lock_ends,
            &self.results,
            &self.stats,
            &self.meta,
            &self.priorities,
            &self.since,
            &self.gone,
            &self.cancels,
            &self.progress,
            &self.aggregating,
            &self.grouped,
            &self.groups,
            &self.hours,
            &self.fired,
            &self.lanes,
            &self.idle,
            &self.owner,
            &self.leases,
            &self.workers,
        ]
    }
}

/// The tag in Redis of an instance, which is a broker handle with its clones.
pub(crate) fn tag(instance: u64) -> String {
    format!("{instance:016x}")
}

/// SET of the names of all queues that have had a task.
pub(crate) fn queues(prefix: &str) -> String {
    format!("{prefix}:queues")
}

/// The keys of documents, all in one slot.
#[derive(Debug)]
pub(crate) struct DocumentKeys {
    /// The keys of each space, in the order of [`Space::ALL`].
    spaces: [SpaceKeys; Space::ALL.len()],
    /// HASH lane → number, time and response of its last change.
    pub(crate) lanes: String,
}

/// The keys of one space of documents.
#[derive(Debug)]
pub(crate) struct SpaceKeys {
    /// HASH name → version, due time and content.
    pub(crate) documents: String,
    /// ZSET name → due time, of documents that have one.
    pub(crate) due: String,
}

impl DocumentKeys {
    pub(crate) fn new(prefix: &str) -> Self {
        // A queue may have the same tag, but none of its keys has one of these names.
        let key = |part: &str| format!("{prefix}:{{documents}}:{part}");
        let keys = |space: Space| SpaceKeys {
            documents: key(space.as_str()),
            due: key(&format!("{}:due", space.as_str())),
        };
        Self {
            spaces: Space::ALL.map(keys),
            lanes: key("changes"),
        }
    }

    pub(crate) fn space(&self, space: Space) -> &SpaceKeys {
        let place = Space::ALL.iter().position(|other| *other == space);
        &self.spaces[place.expect("a space of `ALL`")]
    }
}

/// HASH lane → number and time of its last call that added figures.
pub(crate) fn point_lanes(prefix: &str) -> String {
    format!("{prefix}:{{points}}:changes")
}

/// HASH group and key → figures of a series in the span that starts at this time. All are in one slot.
pub(crate) fn points(prefix: &str, series: Series, at: Timestamp) -> String {
    format!("{prefix}:{{points}}:{}:{}", series.as_str(), at.as_millis())
}

/// STRING: shows that an instance is alive, with an expiry of a few seconds. All are in one slot.
pub(crate) fn alive(prefix: &str, instance: &str) -> String {
    format!("{prefix}:{{alive}}:{instance}")
}
