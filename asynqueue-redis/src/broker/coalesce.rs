//! Tasks of a queue that are enqueued one by one at the same time go out together: those of another queue may fail, and
//! must not hold them up. Those of one durability go by themselves.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use asynqueue_core::{BrokerError, Conflict, Durability, NewTask};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{MAX_CHUNK, RedisBroker, enqueue::Accepted, queue::Queue};

/// The tasks of a queue that wait, by their durability.
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

/// Tasks that wait for the batch before them to be answered. A task that comes alone goes out at once.
#[derive(Debug, Default)]
struct Coalescer(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    tasks: Vec<NewTask>,
    answers: Vec<oneshot::Sender<Answer>>,
    /// Batches under way.
    sending: usize,
}

/// Someone who sends a batch without looking for others.
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
        // Whoever came meanwhile has found room for a batch of their own.
        self.0.0.lock().sending -= 1;
    }
}

type Answer = Result<Result<(), Conflict>, BrokerError>;

/// The most batches under way at a time: while one is on its way back, the next is worked on.
const MAX_SENDING: usize = 2;

impl RedisBroker {
    /// Accepts tasks along with those of others; without a detour if there are none.
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
            // Not by the one who happens to come first: it may be dropped, and the others' tasks with it.
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

/// One of those that send what waits.
struct Sending {
    broker: RedisBroker,
    single: Arc<Coalescer>,
    durability: Durability,
    is_over: bool,
}

impl Sending {
    async fn run(mut self) {
        // What else is enqueued in this turn of the runtime comes along.
        tokio::task::yield_now().await;
        while let Some((tasks, answers)) = self.take() {
            match self.broker.accept_batch(tasks, self.durability).await {
                Ok(accepted) => {
                    for (sender, answer) in answers.into_iter().zip(accepted) {
                        // Whoever has stopped waiting has nothing to be told.
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
            // Under the same lock: whoever comes next has to see that nobody sends.
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
        // Its runtime has gone, or it has panicked.
        if !self.is_over {
            self.single.0.lock().sending -= 1;
        }
    }
}
