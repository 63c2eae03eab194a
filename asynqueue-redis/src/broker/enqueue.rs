//! Accepting tasks.

use std::{collections::HashSet, sync::Arc};

use asynqueue_core::{
    BrokerError, Conflict, Envelope, NewTask, TaskId, TaskState, UniqueKey, UniqueUntil, When,
};

use super::{MAX_CHUNK, MAX_CHUNK_BYTES, MAX_MILLIS, RedisBroker, millis, queue::Queue};
use crate::{reply, script};

/// Whether each task was accepted.
pub(super) type Accepted = Vec<Result<(), Conflict>>;

impl RedisBroker {
    pub(super) async fn accept(&self, tasks: Vec<NewTask>) -> Result<Accepted, BrokerError> {
        if tasks.len() == 1 {
            return self.accept_with_others(tasks).await;
        }
        self.accept_batch(tasks).await
    }

    pub(super) async fn accept_batch(&self, tasks: Vec<NewTask>) -> Result<Accepted, BrokerError> {
        let of_queue = |queue: Arc<Queue>, tasks| async move {
            self.list_queue(&queue).await?;
            self.accept_in(&queue, tasks).await
        };
        self.each_queue(tasks, |task| &task.envelope.queue, of_queue)
            .await
    }

    async fn accept_in(&self, queue: &Queue, tasks: Vec<NewTask>) -> Result<Accepted, BrokerError> {
        let mut accepted = Vec::with_capacity(tasks.len());
        let mut tasks = tasks.as_slice();
        while !tasks.is_empty() {
            let chunk = Chunk::of(tasks);
            let (now, later) = tasks.split_at(chunk.envelopes.len());
            accepted.extend(self.accept_chunk(queue, now, &chunk).await?);
            tasks = later;
        }
        Ok(accepted)
    }

    async fn accept_chunk(
        &self,
        queue: &Queue,
        tasks: &[NewTask],
        chunk: &Chunk<'_>,
    ) -> Result<Accepted, BrokerError> {
        let keys = &queue.keys;
        let lane = queue.changes.next();
        let mut call = script::ENQUEUE.call(&[
            &keys.tasks,
            &keys.locks,
            &keys.priorities,
            &keys.lanes,
            &keys.pending,
            &keys.urgent,
            &keys.scheduled,
            &keys.retry,
            &keys.meta,
            &keys.events,
        ]);
        call.arg(self.script_clock())
            .arg(lane.name())
            .arg(lane.number());
        call.arg(self.link().publish_command())
            .arg(chunk.specials.len());
        for (place, special) in &chunk.specials {
            call.arg(place + 1).arg(special.how).arg(special.time);
            call.arg(special.priority)
                .arg(special.lock)
                .arg(special.ttl)
                .arg(special.window);
        }
        for (task, envelope) in tasks.iter().zip(&chunk.envelopes) {
            call.arg(task.envelope.id.as_str()).arg(envelope.as_slice());
        }
        let answer = reply::text(call.send(self.link()).await?)?;
        lane.answered();
        let mut refused = Vec::new();
        for line in answer.lines() {
            let (place, refusal) = Refusal::read(line)?;
            let task = tasks.get(place).ok_or_else(|| strange(line))?;
            refused.push((place, &task.envelope, refusal));
        }
        let mut accepted = vec![Ok(()); tasks.len()];
        for (place, task, refusal) in &refused {
            let conflict = match refusal {
                // Its id was free a moment later, for a task of this batch: it was done.
                Refusal::Lock(holder) if is_accepted_after(*place, holder, tasks, &refused) => {
                    conflict(task, refusal, TaskState::Completed)
                }
                _ => self.conflict(queue, task, refusal).await?,
            };
            accepted[*place] = Err(conflict);
        }
        Ok(accepted)
    }

    /// Says what stands in a task's way, with the state that it is in by now.
    async fn conflict(
        &self,
        queue: &Queue,
        task: &Envelope,
        refusal: &Refusal,
    ) -> Result<Conflict, BrokerError> {
        let holder = match refusal {
            Refusal::Id => &task.id,
            Refusal::Lock(holder) => holder,
        };
        let found = self.look(queue, std::slice::from_ref(holder)).await?;
        let state = found.into_iter().next().flatten();
        // It was there a moment ago; by now it is done.
        let state = state.map_or(TaskState::Completed, |found| found.state);
        Ok(conflict(task, refusal, state))
    }
}

fn conflict(task: &Envelope, refusal: &Refusal, state: TaskState) -> Conflict {
    match refusal {
        Refusal::Id => Conflict::Id {
            task: task.task_ref(),
            state,
        },
        Refusal::Lock(holder) => Conflict::Unique {
            key: (task.unique.as_ref()).map_or_else(|| UniqueKey::new(""), |lock| lock.key.clone()),
            holder: holder.clone(),
            state,
        },
    }
}

/// Whether a task of a batch that comes after `place` has this id and was accepted.
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

/// Why a task is refused.
enum Refusal {
    Id,
    Lock(TaskId),
}

impl Refusal {
    fn read(line: &str) -> Result<(usize, Self), BrokerError> {
        let read = || {
            let (place, refusal) = line.split_once(' ')?;
            let refusal = match refusal.split_once(' ') {
                None if refusal == "id" => Self::Id,
                Some(("lock", holder)) => Self::Lock(TaskId::new(holder).ok()?),
                _ => return None,
            };
            Some((place.parse().ok()?, refusal))
        };
        read().ok_or_else(|| strange(line))
    }
}

fn strange(line: &str) -> BrokerError {
    BrokerError::Protocol(format!("a refusal that makes no sense: `{line}`"))
}

/// What goes out in one call: the first tasks of a batch, no id among them twice.
struct Chunk<'a> {
    envelopes: Vec<Vec<u8>>,
    /// Those that are more than an id and an envelope, by their place.
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

/// What few tasks have.
struct Special<'a> {
    how: &'static str,
    time: u64,
    priority: u8,
    lock: &'a str,
    ttl: u64,
    /// A `w` if the lock does not end with its task.
    window: &'static str,
}

impl<'a> Special<'a> {
    fn of(task: &'a NewTask) -> Option<Self> {
        let priority = task.envelope.options.priority;
        let lock = task.envelope.unique.as_deref();
        let (how, time) = match task.when {
            When::Now => ("", 0),
            When::After(delay) => ("+", millis(delay)),
            When::At(time) => ("@", time.as_millis().min(MAX_MILLIS)),
        };
        (priority > 0 || lock.is_some() || !how.is_empty()).then(|| Self {
            how,
            time,
            priority,
            lock: lock.map_or("", |lock| lock.key.as_str()),
            ttl: lock.map_or(0, |lock| millis(lock.ttl)),
            window: match lock {
                Some(lock) if lock.until == UniqueUntil::Window => "w",
                _ => "",
            },
        })
    }
}
