//! Accepting tasks.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use asynqueue_core::{
    broker::{BrokerError, CLOCK_TOLERANCE, Conflict, NewTask, Signal, When},
    task::{Envelope, Name, TaskState, Timestamp, UniqueUntil},
};
use tokio_postgres::Row;

use super::{MAX_CHUNK, MAX_CHUNK_BYTES, PostgresBroker, row::task_state};
use crate::{
    link::Event,
    sql::{
        Call, Value,
        values::{
            any, blobs, duration, id_bytes, int, ints, long, rank, shorts, task_id, texts, time,
            timestamp,
        },
    },
};

const ENQUEUE: &str = "select n, why, state, holder, at, head from asynqueue.enqueue($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
     $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25)";

impl PostgresBroker {
    pub(super) async fn accept(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        // A lock that a transaction of a caller holds must not delay the tasks of others.
        if let [task] = tasks.as_slice()
            && is_plain(task)
        {
            let broker = self.clone();
            let send = move |tasks| {
                let broker = broker.clone();
                async move { broker.accept_batch(tasks).await }
            };
            let joined = match is_named(task) {
                true => &self.0.named,
                false => &self.0.single,
            };
            return joined.call(tasks, send).await;
        }
        self.accept_batch(tasks).await
    }

    async fn accept_batch(
        &self,
        tasks: Vec<NewTask>,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        self.link().open_or_closed()?;
        let may_wait = tasks.iter().any(|task| is_named(task) || !is_plain(task));
        let _room = match may_wait {
            true => Some(self.link().room_to_wait().await?),
            false => None,
        };
        let mut tasks = Batch::with_passed_times(tasks, self.link().now());
        let mut results = Vec::with_capacity(tasks.len());
        while !tasks.is_empty() {
            let rest = tasks.split_off(Batch::length(&tasks));
            let batch = Batch::new(tasks);
            let call = batch.call(self.link().fixed());
            let lane = self.link().changes.next();
            let refused = self.link().call_in(lane, call).await?;
            let (accepted, events) = batch.results(refused.iter().map(Refused::of))?;
            self.link().announce(events);
            self.note_tally();
            results.extend(accepted);
            tasks = rest;
        }
        Ok(results)
    }
}

/// How many tasks are one row of the list of pending tasks, which one worker locks at a time.
const MAX_RANGE: usize = 100;

/// Whether each task was accepted.
type Accepted = Vec<Result<(), Conflict>>;

/// Whether a task is pending immediately.
fn is_pending(task: &NewTask) -> bool {
    matches!(task.when, When::Now) && task.envelope.aggregated_in().is_none()
}

/// Whether a caller has chosen the id of a task. A generated one is in no other transaction.
fn is_named(task: &NewTask) -> bool {
    task.envelope.id.to_u128().is_none()
}

/// Whether accepting a task waits for no other task, except for one with the same id.
fn is_plain(task: &NewTask) -> bool {
    let envelope = &task.envelope;
    envelope.unique.is_none() && task.tick.is_none() && envelope.aggregated_in().is_none()
}

/// Tasks to be accepted in one call.
pub(crate) struct Batch {
    tasks: Vec<NewTask>,
    /// The place of each task of the call among `tasks`.
    order: Vec<usize>,
    names: Vec<Name>,
    /// The queue of each task of the call.
    of: Vec<usize>,
    /// How many of them are pending immediately.
    pending: usize,
    /// Their ranges, each of one queue and one priority.
    ranges: Vec<Range<usize>>,
}

impl Batch {
    /// Tasks with a time that has passed are pending immediately, as those without one.
    pub(crate) fn with_passed_times(mut tasks: Vec<NewTask>, now: Timestamp) -> Vec<NewTask> {
        for task in &mut tasks {
            let has_passed = match task.when {
                When::Now => false,
                When::After(delay) => delay.is_zero(),
                When::At(at) => at <= now,
            };
            if has_passed {
                task.when = When::Now;
            }
        }
        tasks
    }

    /// How many of these tasks can be accepted in one call, which accepts them in another order. Tasks that compete for
    /// an id, a lock or a tick are accepted in the order given. At least one, if there are any.
    pub(crate) fn length(tasks: &[NewTask]) -> usize {
        let (mut ids, mut keys, mut guards) = (HashSet::new(), HashSet::new(), HashMap::new());
        let mut competes = |task: &NewTask| {
            let queue = &task.envelope.queue;
            let key = task.envelope.unique.as_ref().map(|lock| &lock.key);
            let class = (is_pending(task), rank(task.envelope.options.priority));
            let guard = task.tick.as_ref().map(|tick| &tick.guard);
            !ids.insert((queue.clone(), task.envelope.id.clone()))
                || key.is_some_and(|key| !keys.insert((queue.clone(), key.clone())))
                || guard.is_some_and(|guard| {
                    let before = guards.insert((queue.clone(), guard.clone()), class);
                    before.is_some_and(|before| before != class)
                })
        };
        let few = &tasks[..tasks.len().min(MAX_CHUNK)];
        let mut bytes = 0;
        let mut is_beyond = |task: &NewTask| {
            let is_first = bytes == 0;
            bytes += task.envelope.payload.len();
            bytes > MAX_CHUNK_BYTES && !is_first
        };
        let ends = |task: &NewTask| is_beyond(task) || competes(task);
        few.iter().position(ends).unwrap_or(few.len())
    }

    pub(crate) fn new(tasks: Vec<NewTask>) -> Self {
        let mut names: Vec<_> = tasks
            .iter()
            .map(|task| task.envelope.queue.clone())
            .collect();
        names.sort_unstable();
        names.dedup();
        let queue = |task: &NewTask| {
            names
                .binary_search(&task.envelope.queue)
                .unwrap_or_default()
        };
        // Tasks of a queue and a priority have turns that follow one another.
        let class = |place: &usize| {
            let task = &tasks[*place];
            let rank = rank(task.envelope.options.priority);
            (!is_pending(task), queue(task), rank)
        };
        let mut order: Vec<usize> = (0..tasks.len()).collect();
        order.sort_by_key(class);
        let of = order.iter().map(|place| class(place).1 + 1).collect();
        let pending = order.partition_point(|place| is_pending(&tasks[*place]));
        let mut ranges = Vec::new();
        for same in order[..pending].chunk_by(|a, b| class(a) == class(b)) {
            for few in same.chunks(MAX_RANGE) {
                let start = ranges.last().map_or(0, |range: &Range<usize>| range.end);
                ranges.push(start..start + few.len());
            }
        }
        Self {
            tasks,
            order,
            names,
            of,
            pending,
            ranges,
        }
    }

    fn all<'a, T>(&'a self, of: impl Fn(&'a NewTask) -> T + 'a) -> impl Iterator<Item = T> + 'a {
        self.order.iter().map(move |place| of(&self.tasks[*place]))
    }

    fn some<'a, T>(&'a self, of: impl Fn(&'a NewTask) -> Option<T> + 'a) -> Option<Vec<Option<T>>> {
        any(self.all(of).collect())
    }

    pub(crate) fn call(&self, fixed: Value) -> Call {
        let lock = |task: &'_ NewTask| task.envelope.unique.clone();
        let limits = |task: &'_ NewTask| {
            task.envelope.aggregated_in()?;
            task.envelope.options.aggregate
        };
        let delay = |task: &NewTask| match task.when {
            When::After(delay) => Some(duration(delay)),
            _ => None,
        };
        let due = |task: &NewTask| match task.when {
            When::At(at) => Some(time(at)),
            _ => None,
        };
        Call::new(
            ENQUEUE,
            [
                texts(&self.names),
                ints(self.of.iter().copied()),
                blobs(self.all(|task| id_bytes(&task.envelope.id))),
                blobs(self.all(|task| task.envelope.to_bytes())),
                shorts(self.all(|task| rank(task.envelope.options.priority))),
                int(self.pending),
                ints(self.ranges.iter().map(|range| range.start + 1)),
                ints(self.ranges.iter().map(|range| range.end)),
                Value::Longs(self.some(due)),
                Value::Longs(self.some(delay)),
                Value::Texts(self.some(|task| Some(lock(task)?.key.as_str().to_owned()))),
                Value::Shorts(self.some(|task| Some(holds(lock(task)?.until)))),
                Value::Longs(self.some(|task| Some(duration(lock(task)?.ttl)))),
                Value::Texts(self.some(|task| Some(task.tick.as_ref()?.guard.to_string()))),
                Value::Longs(self.some(|task| Some(time(task.tick.as_ref()?.tick)))),
                long(duration(CLOCK_TOLERANCE)),
                Value::Texts(
                    self.some(|task| limits(task).map(|_| task.envelope.event.to_string())),
                ),
                Value::Texts(self.some(|task| Some(task.envelope.aggregated_in()?.to_string()))),
                Value::Ints(
                    self.some(|task| {
                        Some(i32::try_from(limits(task)?.max_size).unwrap_or(i32::MAX))
                    }),
                ),
                Value::Longs(self.some(|task| Some(duration(limits(task)?.max_delay)))),
                Value::Longs(self.some(|task| Some(duration(limits(task)?.grace)))),
                fixed,
            ],
        )
    }

    /// The results in the order of the tasks, and what to announce.
    pub(crate) fn results(
        &self,
        refused: impl Iterator<Item = Refused>,
    ) -> Result<(Accepted, Vec<Event>), BrokerError> {
        let mut results = vec![Ok(()); self.tasks.len()];
        let mut events = Vec::new();
        for refused in refused {
            let missing = || BrokerError::protocol("a task was refused that was not sent");
            let place = usize::try_from(refused.number - 1).ok();
            let place = place
                .and_then(|number| self.order.get(number))
                .ok_or_else(missing)?;
            let task = &self.tasks[*place].envelope;
            match refused.why {
                0 => {
                    let due = Signal::Due(task.queue.clone(), timestamp(refused.at));
                    events.push(Event::signal(&task.queue, due));
                }
                4 => events.push(Event::Pending(task.queue.clone(), refused.head)),
                _ => results[*place] = Err(refused.conflict(task)?),
            }
        }
        Ok((results, events))
    }
}

/// Why a task was refused, or what to announce of its queue.
pub(crate) struct Refused {
    pub(crate) number: i32,
    pub(crate) why: i16,
    pub(crate) state: Option<i16>,
    pub(crate) holder: Option<Vec<u8>>,
    pub(crate) at: i64,
    pub(crate) head: Option<String>,
}

impl Refused {
    pub(crate) fn of(row: &Row) -> Self {
        Self {
            number: row.get(0),
            why: row.get(1),
            state: row.get(2),
            holder: row.get(3),
            at: row.get::<_, Option<i64>>(4).unwrap_or_default(),
            head: row.get(5),
        }
    }

    fn conflict(self, task: &Envelope) -> Result<Conflict, BrokerError> {
        let state = self.state.map(task_state);
        Ok(match (self.why, self.holder, &task.unique) {
            (2, Some(holder), Some(lock)) => Conflict::Unique {
                key: lock.key.clone(),
                holder: task_id(&holder)?,
                state: state.unwrap_or(TaskState::Completed),
            },
            (3, ..) => Conflict::Fired {
                task: task.task_ref(),
            },
            _ => Conflict::Id {
                task: task.task_ref(),
                state: state.unwrap_or(TaskState::Other),
            },
        })
    }
}

/// When a lock is released, as a column has it.
pub(crate) fn holds(until: UniqueUntil) -> i16 {
    match until {
        UniqueUntil::Start => 1,
        UniqueUntil::Window => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use asynqueue_core::codec::{CodecName, MessagePack};

    use super::*;

    fn task(id: &str, bytes: usize) -> NewTask {
        let id = asynqueue_core::task::TaskId::new(id).expect("an id");
        let codec = CodecName::of::<MessagePack>();
        NewTask::new(
            Envelope::new(id, "event", codec, vec![0; bytes].into()),
            When::Now,
        )
    }

    #[test]
    fn a_call_has_a_limit_of_bytes_and_at_least_one_task() {
        let half = MAX_CHUNK_BYTES / 2;
        let tasks = |sizes: &[usize]| -> Vec<_> {
            let named = sizes.iter().enumerate();
            named
                .map(|(n, bytes)| task(&format!("task-{n}"), *bytes))
                .collect()
        };
        assert_eq!(Batch::length(&tasks(&[half, half, 1])), 2);
        assert_eq!(Batch::length(&tasks(&[3 * half, 1])), 1);
        assert_eq!(Batch::length(&tasks(&[0, 3 * half, 1])), 2);
        assert_eq!(Batch::length(&tasks(&[1; 2 * MAX_CHUNK])), MAX_CHUNK);
        assert_eq!(Batch::length(&[]), 0);
    }
}
