//! Running all due tasks to completion.

use crate::{
    broker::{Outcome, Settled, Settlement},
    server::{ServerBuilder, ServerError},
    task::{Failure, TaskRef},
};

/// Runs the pending and due tasks one after the other, including tasks that they enqueue or that become due
/// immediately, until none is left. Nothing is polled and nothing runs in the background, so the result is the same
/// each time. Tasks that are due later wait for the next call, after advancing a [`TestClock`](super::TestClock).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{
///     memory::MemoryBroker,
///     process::{Context, Payload, TaskError},
///     producer::Producer,
///     server::Server,
/// };
/// use asynqueue_core::testing::{TestClock, drain};
/// use std::time::Duration;
/// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
/// # #[task(event = "email:welcome", crate = asynqueue_core)]
/// # struct WelcomeEmail { user_id: u64 }
/// # async fn send_welcome(_: Payload<WelcomeEmail>, _: Context) -> Result<(), TaskError> { Ok(()) }
///
/// let clock = TestClock::default();
/// let broker = MemoryBroker::with_clock(clock.clone());
/// let server = || Server::builder(broker.clone()).process(send_welcome);
///
/// let producer = Producer::new(broker.clone());
/// producer.enqueue(WelcomeEmail { user_id: 42 }).await?;
/// producer.enqueue(WelcomeEmail { user_id: 43 }).delay(Duration::from_secs(60)).await?;
/// assert_eq!(drain(server()).await?.completed, 1);
///
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(drain(server()).await?.completed, 1);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// When the server cannot be built or the broker cannot be reached.
pub async fn drain(server: ServerBuilder) -> Result<Drained, ServerError> {
    let mut drained = Drained::default();
    server
        .build()?
        .drain(|settlement, settled| drained.count(settlement, settled))
        .await?;
    Ok(drained)
}

/// The outcomes of the attempts that [`drain`] ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Tasks that completed.
    pub completed: usize,
    /// Attempts that failed and will be retried.
    pub retried: usize,
    /// Attempts that were snoozed, and did not count.
    pub snoozed: usize,
    /// Tasks that were archived after a failure.
    pub archived: usize,
    /// Tasks that were revoked.
    pub dropped: usize,
    /// The failures of all attempts, in order.
    pub failures: Vec<(TaskRef, Failure)>,
}

impl Drained {
    /// Panics unless exactly `completed` tasks completed and nothing failed. The message contains the failures.
    #[track_caller]
    pub fn assert_completed(&self, completed: usize) -> &Self {
        let (failures, others) = (&self.failures, self.snoozed + self.dropped);
        assert!(
            self.completed == completed && failures.is_empty() && others == 0,
            "expected {completed} completed tasks and nothing else, found {self:#?}"
        );
        self
    }

    fn count(&mut self, settlement: &Settlement, settled: Settled) {
        let (count, failed) = match (&settlement.outcome, settled) {
            (_, Settled::Completed) | (Outcome::Complete { .. }, _) => (&mut self.completed, false),
            (Outcome::Retry { .. }, _) => (&mut self.retried, true),
            (Outcome::Archive, _) => (&mut self.archived, true),
            (Outcome::Drop, _) => (&mut self.dropped, false),
            (Outcome::Snooze { .. } | Outcome::Release, _) => (&mut self.snoozed, false),
        };
        *count += 1;
        let envelope = &settlement.envelope;
        if let (true, Some(failure)) = (failed, envelope.last_failure()) {
            self.failures.push((envelope.task_ref(), failure.clone()));
        }
    }
}
