//! Accepting tasks.

use std::{borrow::Cow, collections::HashSet, sync::Arc};

use asynqueue_core::{
    broker::{BrokerError, CLOCK_TOLERANCE, Conflict, Durability, NewTask, TickGuard, When},
    task::{Envelope, Name, TaskId, TaskState, Timestamp, UniqueKey, UniqueUntil},
};

use redis::Value;

use super::{
    MAX_CHUNK, MAX_CHUNK_BYTES, MAX_MILLIS, RedisBroker, groups::group_spec, millis, queue::Queue,
};
use crate::{reply, script};

/// Whether each task was accepted.
pub(super) type Accepted = Vec<Result<(), Conflict>>;

impl RedisBroker {
    pub(super) async fn accept(
        &self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Accepted, BrokerError> {
        if let [task] = tasks.as_slice() {
            let queue = self.queue(&task.envelope.queue);
            return self.accept_with_others(&queue, tasks, durability).await;
        }
        self.accept_batch(tasks, durability).await
    }

    pub(super) async fn accept_batch(
        &self,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Accepted, BrokerError> {
        let of_queue = |queue: Arc<Queue>, tasks| async move {
            self.list_queue(&queue).await?;
            self.accept_in(&queue, tasks, durability).await
        };
        self.each_queue(tasks, |task| &task.envelope.queue, of_queue)
            .await
    }

    /// Removes the last ticks of guards, given with their queues.
    pub(super) async fn forget_guards(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        let remove = async |queue: Arc<Queue>, guards: Vec<Name>| {
            for chunk in guards.chunks(MAX_CHUNK) {
                let not_after = self.script_clock();
                let keys = script::remove::Keys {
                    hash: &queue.keys.fired,
                };
                let mut call = script::remove::call(keys, script::remove::Args { not_after });
                for guard in chunk {
                    let field = guard.as_str();
                    call.row(script::remove::Field { field });
                }
                call.send(self.link()).await?;
            }
            Ok(guards)
        };
        let of_queue = |queue, guards: Vec<&(Name, Name)>| {
            let guards = guards.into_iter().map(|(_, guard)| guard.clone()).collect();
            remove(queue, guards)
        };
        self.each_queue(guards.iter().collect(), |(queue, _)| queue, of_queue)
            .await
            .map(drop)
    }

    async fn accept_in(
        &self,
        queue: &Queue,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Accepted, BrokerError> {
        let mut accepted = Vec::with_capacity(tasks.len());
        let mut tasks = tasks.as_slice();
        while !tasks.is_empty() {
            let chunk = Chunk::of(tasks);
            let (now, later) = tasks.split_at(chunk.envelopes.len());
            accepted.extend(self.accept_chunk(queue, now, &chunk, durability).await?);
            tasks = later;
        }
        Ok(accepted)
    }

    async fn accept_chunk(
        &self,
        queue: &Queue,
        tasks: &[NewTask],
        chunk: &Chunk<'_>,
        durability: Durability,
    ) -> Result<Accepted, BrokerError> {
        let refused = self.send_chunk(queue, tasks, chunk, durability).await?;
        let mut accepted = vec![Ok(()); tasks.len()];
        for (place, task, refusal) in &refused {
            let conflict = match refusal {
                // The id was freed a moment later for a task of this batch, so the task was done.
                Refusal::Lock(holder, _) if is_accepted_after(*place, holder, tasks, &refused) => {
                    Refusal::Lock(holder.clone(), TaskState::Completed).conflict(task)
                }
                _ => refusal.conflict(task),
            };
            accepted[*place] = Err(conflict);
        }
        Ok(accepted)
    }

    /// Sends tasks in one call. Returns the refusals, by index.
    async fn send_chunk<'a>(
        &self,
        queue: &Queue,
        tasks: &'a [NewTask],
        chunk: &Chunk<'_>,
        durability: Durability,
    ) -> Result<Vec<(usize, &'a Envelope, Refusal)>, BrokerError> {
        let lane = queue.changes.next();
        let args = script::enqueue::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            publish: self.link().publish_command(),
            specials: chunk.specials.len(),
        };
        let mut call = script::enqueue::call(&queue.keys, args);
        for (place, special) in &chunk.specials {
            call.row(script::enqueue::Special {
                place: place + 1,
                how: special.how,
                time: special.time,
                priority: special.priority,
                lock: special.lock,
                ttl: special.ttl,
                window: special.window,
                group: &*special.group,
                tick: &*special.tick,
            });
        }
        for (task, envelope) in tasks.iter().zip(&chunk.envelopes) {
            call.row(script::enqueue::Task {
                id: task.envelope.id.as_str(),
                envelope: envelope.as_slice(),
            });
        }
        let answer = call.send_durably(self.link(), durability).await?;
        let answer = self.read_answer(answer)?;
        lane.answered();
        let mut refused = Vec::new();
        for line in answer.lines() {
            let (place, refusal) = Refusal::read(line)?;
            let task = tasks.get(place).ok_or_else(|| unexpected(line))?;
            refused.push((place, &task.envelope, refusal));
        }
        Ok(refused)
    }

    /// Returns the refused tasks, one per line, and notes the time in the response, if the response is new.
    fn read_answer(&self, answer: Value) -> Result<String, BrokerError> {
        let (now, refused) = match answer {
            Value::Int(now) => (now, String::new()),
            Value::Array(parts) => {
                let mut parts = parts.into_iter();
                let now = reply::number(reply::next(&mut parts)?)?;
                (now as i64, reply::text(reply::next(&mut parts)?)?)
            }
            before => return reply::text(before),
        };
        self.note_time(Timestamp::from_millis(now as u64));
        Ok(refused)
    }
}

/// Whether a later task of the batch, after `place`, has this id and was accepted.
fn is_accepted_after(
    place: usize,
    id: &TaskId,
    tasks: &[NewTask],
    refused: &[(usize, &Envelope, Refusal)],
) -> bool {
    let later = tasks.iter().enumerate().skip(place + 1);
    let mut of_id = later.filter(|(_, task)| task.envelope.id == *id);
    of_id.any(|(place, _)| refused.iter().all(|(refused, ..)| *refused != place))
}

/// Why a task was refused, and the state of the conflicting task.
pub(super) enum Refusal {
    Id(TaskState),
    Lock(TaskId, TaskState),
    /// The queue has already accepted a task for this tick or a later one.
    Fired,
}

impl Refusal {
    fn read(line: &str) -> Result<(usize, Self), BrokerError> {
        let read = || {
            let mut words = line.split(' ');
            let place = words.next()?.parse().ok()?;
            let refusal = match words.next()? {
                "fired" => Self::Fired,
                "id" => Self::Id(state(words.next()?)?),
                "lock" => Self::Lock(TaskId::new(words.next()?).ok()?, state(words.next()?)?),
                _ => return None,
            };
            Some((place, refusal))
        };
        read().ok_or_else(|| unexpected(line))
    }

    /// The conflict for the caller.
    pub(super) fn conflict(&self, task: &Envelope) -> Conflict {
        match self {
            Self::Lock(holder, state) => Conflict::Unique {
                key: (task.unique.as_ref())
                    .map_or_else(|| UniqueKey::new(""), |lock| lock.key.clone()),
                holder: holder.clone(),
                state: *state,
            },
            Self::Id(state) => Conflict::Id {
                task: task.task_ref(),
                state: *state,
            },
            Self::Fired => Conflict::Fired {
                task: task.task_ref(),
            },
        }
    }
}

/// A state by its name in scripts. A task that existed a moment ago and does not any more is done.
fn state(name: &str) -> Option<TaskState> {
    let mut states = TaskState::ALL.into_iter();
    match name {
        "-" => Some(TaskState::Completed),
        _ => states.find(|state| state.as_str() == name),
    }
}

fn unexpected(line: &str) -> BrokerError {
    BrokerError::protocol(format!("unexpected refusal: `{line}`"))
}

/// The tasks of one call: the first of a batch, without an id twice.
struct Chunk<'a> {
    envelopes: Vec<Vec<u8>>,
    /// Tasks with more than an id and an envelope, by index.
    specials: Vec<(usize, Special<'a>)>,
}

impl<'a> Chunk<'a> {
    fn of(tasks: &'a [NewTask]) -> Self {
        let mut chunk = Self {
            envelopes: Vec::with_capacity(tasks.len().min(MAX_CHUNK)),
            specials: Vec::new(),
        };
        let (mut bytes, mut ids) = (0, HashSet::with_capacity(tasks.len().min(MAX_CHUNK)));
        for (place, task) in tasks.iter().take(MAX_CHUNK).enumerate() {
            if bytes > MAX_CHUNK_BYTES || !ids.insert(&task.envelope.id) {
                break;
            }
            let envelope = task.envelope.to_bytes();
            bytes += envelope.len();
            chunk.envelopes.push(envelope);
            chunk
                .specials
                .extend(Special::of(task).map(|special| (place, special)));
        }
        chunk
    }
}

/// Options that few tasks have.
#[derive(Default)]
pub(super) struct Special<'a> {
    pub(super) how: &'static str,
    pub(super) time: u64,
    pub(super) priority: u8,
    pub(super) lock: &'a str,
    pub(super) ttl: u64,
    /// `w` if the lock can outlive its task.
    pub(super) window: &'static str,
    /// The group that the task waits in.
    group: Cow<'a, str>,
    /// The tick of the task, and its guard.
    tick: Cow<'a, str>,
}

impl<'a> Special<'a> {
    pub(super) fn of(task: &'a NewTask) -> Option<Self> {
        let priority = task.envelope.options.priority;
        let lock = task.envelope.unique.as_deref();
        let (how, time) = match task.when {
            When::Now => ("", 0),
            When::After(delay) => ("+", millis(delay)),
            When::At(time) => ("@", time.as_millis().min(MAX_MILLIS)),
        };
        let group = group_spec(&task.envelope);
        let is_special = priority > 0
            || lock.is_some()
            || !how.is_empty()
            || group.is_some()
            || task.tick.is_some();
        is_special.then(|| Self {
            how,
            time,
            priority,
            lock: lock.map_or("", |lock| lock.key.as_str()),
            ttl: lock.map_or(0, |lock| millis(lock.ttl)),
            window: match lock {
                Some(lock) if lock.until == UniqueUntil::Window => "w",
                _ => "",
            },
            group: group.map_or(Cow::Borrowed(""), Cow::Owned),
            tick: (task.tick.as_ref()).map_or(Cow::Borrowed(""), |TickGuard { guard, tick }| {
                let (tick, tolerance) = (tick.as_millis(), millis(CLOCK_TOLERANCE));
                Cow::Owned(format!("{tick},{tolerance}:{guard}"))
            }),
        })
    }
}
