//! The names of keys: the one place where a queue becomes keys.

use asynqueue_core::{broker::Space, task::Name};

/// The keys of one queue, all in one slot of a cluster by their hash tag.
///
/// A logical queue could be spread over several slots by giving it several of these.
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
    /// ZSET id → until when it is kept.
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
    /// HASH id → since when it is pending, where that is not since it was enqueued.
    pub(crate) since: String,
    /// HASH id → how many entries of `pending` are left of deleted tasks.
    pub(crate) gone: String,
    /// HASH id → why it is to be cancelled, of active tasks.
    pub(crate) cancels: String,
    /// HASH id → progress, of active tasks.
    pub(crate) progress: String,
    /// HASH id → until when someone waits for its end.
    pub(crate) waiters: String,
    /// HASH id → limits and member, of tasks that wait in a group.
    pub(crate) aggregating: String,
    /// ZSET of members: group, time and id.
    pub(crate) grouped: String,
    /// ZSET group → due.
    pub(crate) groups: String,
    /// HASH hour → number of attempts that ended.
    pub(crate) hours: String,
    /// HASH schedule entry → its last tick that put a task here.
    pub(crate) fired: String,
    /// HASH lane → number, time and answer of its last change.
    pub(crate) lanes: String,
    /// ZSET instance → since when servers of it have waited for tasks, to be woken.
    pub(crate) idle: String,
    /// STRING: the instance that looks after the queue, for a while.
    pub(crate) owner: String,
    /// HASH id → token of its lease, while many tasks are active.
    pub(crate) leases: String,
    /// HASH tag → name of a worker.
    pub(crate) workers: String,
    /// STRING: the lane and number of the last deletion of the queue, for a while.
    pub(crate) deleted: String,
    /// Channel of signals.
    pub(crate) events: String,
    /// Channel of signals to this instance alone.
    pub(crate) own_events: String,
    /// Channel of ends that someone waits for.
    pub(crate) done: String,
}

impl QueueKeys {
    /// The keys as `instance` sees them, in database `db`.
    pub(crate) fn new(prefix: &str, db: i64, queue: &Name, instance: u64) -> Self {
        let key = |part: &str| format!("{prefix}:{{{queue}}}:{part}");
        // Keys are of a database, and channels are not.
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
    /// All keys of the queue: its tasks and those who wait for their ends come first. Not among them is what notes that it was
    /// deleted.
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

/// What an instance, a handle on the broker with its clones, is called in Redis.
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
    /// Those of each space, in the order of [`Space::ALL`].
    spaces: [SpaceKeys; Space::ALL.len()],
    /// HASH lane → number, time and answer of its last change.
    pub(crate) lanes: String,
}

/// The keys of one space of documents.
#[derive(Debug)]
pub(crate) struct SpaceKeys {
    /// HASH name → version, time when it is due, and content.
    pub(crate) documents: String,
    /// ZSET name → when it is due, of those that ever are.
    pub(crate) due: String,
}

impl DocumentKeys {
    pub(crate) fn new(prefix: &str) -> Self {
        // A queue may have the same tag. None of its keys has one of these names.
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

/// STRING: says that an instance is alive, for a few seconds. All of them are in one slot.
pub(crate) fn alive(prefix: &str, instance: &str) -> String {
    format!("{prefix}:{{alive}}:{instance}")
}
