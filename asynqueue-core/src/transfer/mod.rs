//! Moving everything from one store to another: tasks in their exact state, schedule entries with their history,
//! subscribers, paused queues and statistics.
//!
//! A move may run beside servers on both stores, may be killed at any point and is then started again: no task is lost,
//! and none runs twice because of the move. The modules describe the steps: `tasks`, `entries`, `statistics` and
//! `ledger`. The chapter *Moving to another store* of the book is about its use.

mod entries;
mod error;
mod ledger;
mod mark;
mod queue;
mod report;
mod side;
mod statistics;
mod subscribers;
mod tasks;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tokio::time::sleep;

use self::{
    entries::{Entries, Moved},
    ledger::Ledger,
    queue::{QueueMove, Round},
    side::Side,
    subscribers::Subscribers,
    tasks::HandOver,
};
pub use self::{
    error::TransferError,
    report::{Left, Report, Survey},
};
use crate::{
    broker::{BrokerError, SharedBroker, Space},
    task::{Name, TaskState},
};

/// How often to look for tasks that were active.
const LOOK: Duration = Duration::from_millis(200);

/// A move of everything from one store to another.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use asynqueue_core::{broker::SharedBroker, memory::MemoryBroker, transfer::Transfer};
///
/// let (old, new): (SharedBroker, SharedBroker) = (MemoryBroker::new().into(), MemoryBroker::new().into());
/// let report = Transfer::new(old, new).run().await?;
/// assert!(report.is_complete());
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Transfer {
    from: Side,
    to: Side,
    queues: Option<Vec<Name>>,
    patience: Duration,
    on_moved: Option<Arc<OnMoved>>,
}

type OnMoved = dyn Fn(&Name, u64) + Send + Sync;

impl Transfer {
    /// A move of everything that `from` stores to `to`.
    pub fn new(from: impl Into<SharedBroker>, to: impl Into<SharedBroker>) -> Self {
        Self {
            from: Side::source(from.into()),
            to: Side::target(to.into()),
            queues: None,
            patience: Duration::from_secs(30),
            on_moved: None,
        }
    }

    /// Moves only these queues, and the schedule entries whose tasks go to them. Subscribers are not copied. Default:
    /// everything.
    #[must_use]
    pub fn queues(mut self, queues: impl IntoIterator<Item = impl Into<Name>>) -> Self {
        self.queues = Some(queues.into_iter().map(Into::into).collect());
        self
    }

    /// How long to wait for a server of the source to reclaim a task whose lease has expired, and for a scheduler of
    /// the source to fire a due entry. Default 30 s.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Calls this each time that tasks of a queue were moved, with their number.
    #[must_use]
    pub fn on_moved(mut self, call: impl Fn(&Name, u64) + Send + Sync + 'static) -> Self {
        self.on_moved = Some(Arc::new(call));
        self
    }

    /// What there is to move. Changes nothing.
    ///
    /// # Errors
    ///
    /// When the source cannot be reached.
    pub async fn survey(&self) -> Result<Survey, TransferError> {
        let mut survey = Survey::default();
        for queue in self.selected(self.from.queues().await?) {
            let stats = self.from.stats(&queue).await?;
            survey.active += stats.count(TaskState::Active);
            survey.queues.insert(queue, stats.total());
        }
        let no_move = Name::from_static("");
        let entries = self.entries(&no_move);
        survey.schedules = entries.names(self.queues.as_deref()).await?.len() as u64;
        if self.queues.is_none() {
            let subscribers = self.from.broker().subscriptions().await;
            let subscribers = subscribers.map_err(|error| self.from.failed(error))?;
            survey.subscribers = subscribers.len() as u64;
        }
        Ok(survey)
    }

    /// Moves everything, or what an earlier move between these two stores has left. Waits for tasks that are active,
    /// and returns once nothing is left that can be moved.
    ///
    /// # Errors
    ///
    /// When a store cannot be reached or does not support moves; when source and target are the same; when the source
    /// has an unfinished move to another store; when another process moves its tasks. Starting the move again resumes
    /// it.
    pub async fn run(&self) -> Result<Report, TransferError> {
        for side in [&self.from, &self.to] {
            if !side.broker().capabilities().import {
                return Err(side.failed(BrokerError::unsupported(
                    "a move: expected a store that supports imports",
                )));
            }
        }
        let mut ledger = Ledger::open(self.from.clone(), self.to.clone()).await?;
        match self.run_claimed(&mut ledger).await {
            Ok(report) => {
                if self.has_records().await? {
                    ledger.release().await?;
                } else {
                    ledger.finish().await?;
                }
                Ok(report)
            }
            Err(error) => {
                if !matches!(error, TransferError::Busy) {
                    // Otherwise the claim ends by its time.
                    let _ = ledger.release().await;
                }
                Err(error)
            }
        }
    }

    async fn run_claimed(&self, ledger: &mut Ledger) -> Result<Report, TransferError> {
        let mut report = Report::default();
        if self.queues.is_none() {
            let (from, to) = (&self.from, &self.to);
            report.subscribers = Subscribers { from, to }.copy().await?;
        }
        self.move_entries(ledger, &mut report).await?;
        self.move_queues(ledger, &mut report).await?;
        Ok(report)
    }

    fn entries<'a>(&'a self, id: &'a Name) -> Entries<'a> {
        Entries {
            from: &self.from,
            to: &self.to,
            id,
            patience: self.patience,
        }
    }

    async fn move_entries(
        &self,
        ledger: &mut Ledger,
        report: &mut Report,
    ) -> Result<(), TransferError> {
        let id = ledger.id.clone();
        let entries = self.entries(&id);
        if ledger.is_resumed {
            entries.resume().await?;
        }
        for name in entries.names(self.queues.as_deref()).await? {
            loop {
                ledger.renew().await?;
                match entries.move_one(&name).await? {
                    Moved::Yes => report.schedules += 1,
                    Moved::Taken => report.left.push(Left::Entry(name.clone())),
                    Moved::Gone => {}
                    Moved::Changed => continue,
                }
                break;
            }
        }
        Ok(())
    }

    /// Moves the tasks of all queues in rounds, until nothing is left that can be moved.
    async fn move_queues(
        &self,
        ledger: &mut Ledger,
        report: &mut Report,
    ) -> Result<(), TransferError> {
        let hand_over = HandOver {
            from: self.from.clone(),
            to: self.to.clone(),
            id: ledger.id.clone(),
        };
        let mut moves: BTreeMap<Name, QueueMove> = BTreeMap::new();
        loop {
            let (mut is_over, mut has_moved) = (true, false);
            for queue in self.open_queues().await? {
                let new = || QueueMove::new(queue.clone(), hand_over.clone(), self.patience);
                let queue = moves.entry(queue.clone()).or_insert_with(new);
                match queue.round(ledger, self.on_moved.as_deref()).await? {
                    Round::Moved => (is_over, has_moved) = (false, true),
                    Round::Waiting => is_over = false,
                    Round::Over => {}
                }
            }
            if is_over {
                break;
            }
            if !has_moved {
                ledger.renew().await?;
                sleep(LOOK).await;
            }
        }
        for (name, queue) in moves {
            report.left.extend(queue.left().await?);
            report.queues.insert(name, queue.moved());
        }
        Ok(())
    }

    /// The queues to move: all that the source has or an earlier process has not finished.
    async fn open_queues(&self) -> Result<Vec<Name>, TransferError> {
        let mut queues = self.from.queues().await?;
        queues.extend(queue::recorded(&self.from).await?);
        queues.sort_unstable();
        queues.dedup();
        Ok(self.selected(queues))
    }

    fn selected(&self, mut queues: Vec<Name>) -> Vec<Name> {
        if let Some(selected) = &self.queues {
            queues.retain(|queue| selected.contains(queue));
        }
        queues
    }

    /// Whether the source has records beside that of the move itself: of queues that are not finished.
    async fn has_records(&self) -> Result<bool, TransferError> {
        Ok(self.from.documents(Space::Moves).await?.len() > 1)
    }
}

impl fmt::Debug for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transfer")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("queues", &self.queues)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
