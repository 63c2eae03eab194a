//! A handler that completes its tasks in transactions, and the ways in which it fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::SharedBroker,
    codec::MessagePack,
    process::{Context, Payload, State, TaskError},
    producer::Producer,
    server::{Server, ServerHandle},
    task::{Backoff, Task, TaskOptions},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};

use super::TransactionHarness;

/// Adds an account with these cents. Returns twice their number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credit {
    /// The cents of the account.
    pub cents: u64,
}

impl Task for Credit {
    const EVENT: &'static str = "credit";
    type Output = u64;
    type Codec = MessagePack;

    fn options() -> Arc<TaskOptions> {
        TaskOptions::shared(|options| {
            options.retention = Duration::from_secs(3_600);
            options.backoff = Backoff::Fixed(Duration::from_millis(1));
        })
    }
}

/// What the handler does.
#[derive(Clone)]
pub(super) struct Bank {
    pub(super) harness: Arc<dyn TransactionHarness>,
    pub(super) attempts: Arc<AtomicU32>,
    /// Fails after the commit.
    pub(super) fails_late: Option<Late>,
    /// Forgets to commit in the first attempt.
    pub(super) forgets: bool,
    /// Signals each start, and waits for a permit before it completes.
    pub(super) gate: Option<(mpsc::UnboundedSender<()>, Arc<Semaphore>)>,
    pub(super) errors: Option<mpsc::UnboundedSender<String>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Late {
    Retry,
    SkipRetry,
    Panic,
}

impl Bank {
    pub(super) fn new(harness: Arc<dyn TransactionHarness>) -> Self {
        Self {
            harness,
            attempts: Arc::default(),
            fails_late: None,
            forgets: false,
            gate: None,
            errors: None,
        }
    }

    /// A server that runs the handler.
    pub(super) async fn serve(&self, broker: SharedBroker) -> ServerHandle {
        let server = Server::builder(broker)
            .queue("default", 1)
            .concurrency(4)
            .lease(Duration::from_secs(2))
            .state(self.clone())
            .process(credit);
        server.start().await.unwrap()
    }
}

pub(super) async fn credit(
    State(bank): State<Bank>,
    task: Payload<Credit>,
    ctx: Context,
) -> Result<u64, TaskError> {
    bank.attempts.fetch_add(1, SeqCst);
    if let Some((started, gate)) = &bank.gate {
        started.send(()).expect("a test");
        gate.acquire().await.expect("open").forget();
    }
    let (cents, output) = (task.cents, task.cents * 2);
    let forgets = bank.forgets && ctx.attempt() == 1;
    let completed = bank.harness.complete(&ctx, cents, output, !forgets).await;
    if let Err(error) = completed {
        if let Some(errors) = &bank.errors {
            // Fails after the test has read the first one.
            let _ = errors.send(error.to_string());
        }
        return Err(TaskError::retry(error.to_string()));
    }
    match bank.fails_late {
        Some(Late::Retry) => Err(TaskError::retry("after the commit")),
        Some(Late::SkipRetry) => Err(TaskError::skip_retry("after the commit")),
        Some(Late::Panic) => panic!("after the commit"),
        None => Ok(output),
    }
}

/// The error of `complete_in` in a transaction on this database, for a task of this broker.
pub async fn error_of_completion(
    harness: Arc<dyn TransactionHarness>,
    broker: impl Into<SharedBroker>,
) -> String {
    let (errors, mut received) = mpsc::unbounded_channel();
    let bank = Bank {
        errors: Some(errors),
        ..Bank::new(harness)
    };
    let broker = broker.into();
    let producer = Producer::new(Arc::clone(&broker));
    producer.enqueue(Credit { cents: 5 }).await.unwrap();
    let server = Server::builder(broker).state(bank).process(credit);
    let server = server.start().await.unwrap();
    let error = received.recv().await.expect("an error");
    server.shutdown().await.expect("ended in order");
    error
}
