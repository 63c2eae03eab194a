//! Pausing and resuming queues, and who paused them.

use super::{ActionKind, AuditEntry, AuditTarget, Inspector};
use crate::{
    broker::{BrokerError, Pausable, Pause},
    task::Name,
};

impl Inspector {
    /// Pauses queues: no tasks are leased from them. Active tasks continue. Who [acts](Self::acting_as) and when is
    /// [recorded](Self::pauses). A queue that was paused before keeps its record.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. A queue that was paused may then have no record.
    pub async fn pause(&self, queues: &[Name]) -> Result<(), BrokerError> {
        self.pause_because(queues, "").await
    }

    /// [Pauses](Self::pause) queues, and records the reason.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{broker::Pausable, inspector::Inspector, memory::MemoryBroker, task::Name};
    ///
    /// let inspector = Inspector::new(MemoryBroker::new()).acting_as("ada");
    /// let payments = Name::from("payments");
    /// inspector.pause_because(&[payments.clone()], "the bank rejects all charges").await?;
    /// let pauses = inspector.pauses(&[Pausable::Queue(payments)]).await?;
    /// let pause = pauses[0].as_ref().expect("recorded");
    /// assert_eq!(pause.reason.as_deref(), Some("the bank rejects all charges"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached. A queue that was paused may then have no record.
    pub async fn pause_because(
        &self,
        queues: &[Name],
        reason: impl Into<String>,
    ) -> Result<(), BrokerError> {
        let stats = self.broker.stats(queues).await?;
        self.broker.set_paused(queues, true).await?;
        let running = queues.iter().zip(stats).filter(|(_, stats)| !stats.paused);
        let paused: Vec<_> = running
            .map(|(queue, _)| Pausable::Queue(queue.clone()))
            .collect();
        let pause = Pause::new(self.broker.now()).by(self.actor.clone());
        let pause = pause.because(reason);
        self.broker.record_pauses(&paused, &pause).await?;
        let reason = pause.reason.as_deref().unwrap_or_default();
        let entries = paused.iter().filter_map(|paused| match paused {
            Pausable::Queue(queue) => Some(of_queue(ActionKind::Pause, queue).because(reason)),
            Pausable::Schedule(_) => None,
        });
        self.record(entries).await;
        Ok(())
    }

    /// Resumes leasing from queues.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn resume(&self, queues: &[Name]) -> Result<(), BrokerError> {
        let stats = self.broker.stats(queues).await?;
        self.broker.set_paused(queues, false).await?;
        let paused = queues.iter().zip(stats).filter(|(_, stats)| stats.paused);
        let entries = paused.map(|(queue, _)| of_queue(ActionKind::Resume, queue));
        self.record(entries).await;
        Ok(())
    }

    /// Who paused queues and schedule entries, when and why, in the order given. `None` if there is no record: it is not
    /// paused, or a program without records paused it, such as an earlier version.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn pauses(&self, of: &[Pausable]) -> Result<Vec<Option<Pause>>, BrokerError> {
        self.broker.pauses(of).await
    }
}

fn of_queue(kind: ActionKind, queue: &Name) -> AuditEntry {
    AuditEntry::new(kind, AuditTarget::Queue(queue.clone()))
}
