//! Items of concurrent callers are sent together.

use std::{future::Future, sync::Arc};

use crate::sync::Mutex;
use tokio::sync::oneshot;

use crate::broker::BrokerError;

/// Items that wait for the response to the previous batch. An item that arrives alone is sent immediately.
#[derive(Debug)]
pub struct Coalescer<I, O> {
    waiting: Mutex<Waiting<I, O>>,
    limit: usize,
}

#[derive(Debug)]
struct Waiting<I, O> {
    items: Vec<I>,
    answers: Vec<oneshot::Sender<Result<O, BrokerError>>>,
    /// Batches being sent.
    sending: usize,
}

/// The limit of concurrent batches: while the response to one arrives, the server works on the next.
const MAX_SENDING: usize = 2;

/// A caller that sends a batch without waiting for others.
struct Alone<'a, I, O>(&'a Coalescer<I, O>);

impl<I, O> Drop for Alone<'_, I, O> {
    fn drop(&mut self) {
        // Callers that arrived in the meantime had room for their own batch.
        self.0.waiting.lock().sending -= 1;
    }
}

impl<I: Send + 'static, O: Send + 'static> Coalescer<I, O> {
    /// Sends up to `limit` items together.
    pub fn new(limit: usize) -> Self {
        let waiting = Mutex::new(Waiting {
            items: Vec::new(),
            answers: Vec::new(),
            sending: 0,
        });
        Self { waiting, limit }
    }

    /// Sends items together with those of concurrent callers, or directly if there are none. `send` returns a result
    /// for each of its items, in their order.
    ///
    /// # Errors
    ///
    /// When `send` fails for the batch with these items.
    pub async fn call<F>(
        self: &Arc<Self>,
        items: Vec<I>,
        send: impl Fn(Vec<I>) -> F + Send + 'static,
    ) -> Result<Vec<O>, BrokerError>
    where
        F: Future<Output = Result<Vec<O>, BrokerError>> + Send + 'static,
    {
        if let Some(_alone) = self.alone() {
            return send(items).await;
        }
        let mut answers = Vec::with_capacity(items.len());
        let sends = {
            let mut waiting = self.waiting.lock();
            for item in items {
                let (sender, answer) = oneshot::channel();
                waiting.items.push(item);
                waiting.answers.push(sender);
                answers.push(answer);
            }
            let sends = waiting.sending < MAX_SENDING;
            waiting.sending += usize::from(sends);
            sends
        };
        if sends {
            // In a separate task: if the first caller sent the batch and was dropped, the others' items would be
            // dropped too.
            let sending = Sending {
                coalescer: Arc::clone(self),
                is_over: false,
            };
            tokio::spawn(sending.run(send));
        }
        let mut results = Vec::with_capacity(answers.len());
        for answer in answers {
            let lost = |_| BrokerError::unavailable("the program's runtime is shutting down");
            results.push(answer.await.map_err(lost)??);
        }
        Ok(results)
    }

    fn alone(&self) -> Option<Alone<'_, I, O>> {
        let mut waiting = self.waiting.lock();
        (waiting.sending == 0).then(|| {
            waiting.sending = 1;
            Alone(self)
        })
    }
}

/// A task that sends the waiting items.
struct Sending<I, O> {
    coalescer: Arc<Coalescer<I, O>>,
    is_over: bool,
}

type Batch<I, O> = (Vec<I>, Vec<oneshot::Sender<Result<O, BrokerError>>>);

impl<I, O> Sending<I, O> {
    async fn run<F>(mut self, send: impl Fn(Vec<I>) -> F)
    where
        F: Future<Output = Result<Vec<O>, BrokerError>>,
    {
        loop {
            // Includes what else is sent in this turn of the runtime, such as the next items of the callers that have
            // just had their results.
            tokio::task::yield_now().await;
            let Some((items, answers)) = self.take() else {
                return;
            };
            match send(items).await {
                Ok(results) => {
                    for (sender, result) in answers.into_iter().zip(results) {
                        // The caller may have stopped waiting.
                        let _ = sender.send(Ok(result));
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

    fn take(&mut self) -> Option<Batch<I, O>> {
        let mut waiting = self.coalescer.waiting.lock();
        let count = waiting.items.len().min(self.coalescer.limit);
        if count == 0 {
            // Under the same lock, so that the next caller sees that no batch is being sent.
            waiting.sending -= 1;
            self.is_over = true;
            return None;
        }
        let items = waiting.items.drain(..count).collect();
        Some((items, waiting.answers.drain(..count).collect()))
    }
}

impl<I, O> Drop for Sending<I, O> {
    fn drop(&mut self) {
        // The runtime has shut down, or the task has panicked.
        if !self.is_over {
            self.coalescer.waiting.lock().sending -= 1;
        }
    }
}
