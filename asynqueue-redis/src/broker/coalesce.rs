//! Concurrent `enqueue` calls for a queue are sent together. Tasks of different queues are sent separately, so that a
//! failing queue does not delay the others. So are tasks of different durabilities.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use asynqueue_core::broker::{BrokerError, Conflict, Durability, NewTask};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{MAX_CHUNK, RedisBroker, enqueue::Accepted, queue::Queue};

/// The waiting tasks of a queue, by durability.
#[derive(Debug, Default)]
pub(super) struct Coalescers {
    primary: Arc<Coalescer>,
    others: OnceLock<Mutex<HashMap<Durability, Arc<Coalescer>>>>,
}

impl Coalescers {
    fn of(&self, durability: Durability) -> Arc<Coalescer> {
        if durability.is_primary() {
            return Arc::clone(&self.primary);
        }
        let mut others = self.others.get_or_init(Mutex::default).lock();
        Arc::clone(others.entry(durability).or_default())
    }
}

/// Tasks that wait for the response to the previous batch. A task that arrives alone is sent immediately.
#[derive(Debug, Default)]
struct Coalescer(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    tasks: Vec<NewTask>,
    answers: Vec<oneshot::Sender<Answer>>,
    /// Batches being sent.
    sending: usize,
}

/// A caller that sends a batch without waiting for others.
struct Alone<'a>(&'a Coalescer);

impl Coalescer {
    fn alone(&self) -> Option<Alone<'_>> {
        let mut waiting = self.0.lock();
        (waiting.sending == 0).then(|| {
            waiting.sending = 1;
            Alone(self)
        })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        // Callers that arrived in the meantime had room for their own batch.
        self.0.0.lock().sending -= 1;
    }
}

type Answer = Result<Result<(), Conflict>, BrokerError>;

/// The limit of concurrent batches: while the response to one arrives, Redis works on the next.
const MAX_SENDING: usize = 2;

impl RedisBroker {
    /// Accepts tasks together with those of concurrent callers, or directly if there are none.
    pub(super) async fn accept_with_others(
        &self,
        queue: &Queue,
        tasks: Vec<NewTask>,
        durability: Durability,
    ) -> Result<Accepted, BrokerError> {
        let single = queue.single.of(durability);
        if let Some(_alone) = single.alone() {
            return self.accept_batch(tasks, durability).await;
        }
        let mut answers = Vec::with_capacity(tasks.len());
        let sends = {
            let mut waiting = single.0.lock();
            for task in tasks {
                let (sender, answer) = oneshot::channel();
                waiting.tasks.push(task);
                waiting.answers.push(sender);
                answers.push(answer);
            }
            let sends = waiting.sending < MAX_SENDING;
            waiting.sending += usize::from(sends);
            sends
        };
        if sends {
            // In a separate task: if the first caller sent the batch and was dropped, the others' tasks would be
            // dropped too.
            let sending = Sending {
                broker: self.clone(),
                single,
                durability,
                is_over: false,
            };
            tokio::spawn(sending.run());
        }
        let mut accepted = Vec::with_capacity(answers.len());
        for answer in answers {
            let lost = |_| BrokerError::unavailable("the program's runtime is shutting down");
            accepted.push(answer.await.map_err(lost)??);
        }
        Ok(accepted)
    }
}

/// A task that sends the waiting tasks.
struct Sending {
    broker: RedisBroker,
    single: Arc<Coalescer>,
    durability: Durability,
    is_over: bool,
}

impl Sending {
    async fn run(mut self) {
        // Includes what else is enqueued in this turn of the runtime.
        tokio::task::yield_now().await;
        while let Some((tasks, answers)) = self.take() {
            match self.broker.accept_batch(tasks, self.durability).await {
                Ok(accepted) => {
                    for (sender, answer) in answers.into_iter().zip(accepted) {
                        // The caller may have stopped waiting.
                        let _ = sender.send(Ok(answer));
                    }
                }
                Err(error) => {
                    for sender in answers {
                        let _ = sender.send(Err(error.clone()));
                    }
                }
            }
        }
    }

    fn take(&mut self) -> Option<(Vec<NewTask>, Vec<oneshot::Sender<Answer>>)> {
        let mut waiting = self.single.0.lock();
        let count = waiting.tasks.len().min(MAX_CHUNK);
        if count == 0 {
            // Under the same lock, so that the next caller sees that no batch is being sent.
            waiting.sending -= 1;
            self.is_over = true;
            return None;
        }
        let tasks = waiting.tasks.drain(..count).collect();
        Some((tasks, waiting.answers.drain(..count).collect()))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // The runtime has shut down, or the task has panicked.
        if !self.is_over {
            self.single.0.lock().sending -= 1;
        }
    }
}
