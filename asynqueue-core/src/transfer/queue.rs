//! Moves one queue in rounds: all of its tasks that are not active, then its statistics, and then the queue itself.

use std::{collections::HashMap, time::Duration};

use super::{
    OnMoved,
    error::TransferError,
    ledger::Ledger,
    report::Left,
    side::Side,
    statistics::{self, Statistics},
    tasks::{BATCH, Batch, HandOver, Stays},
};
use crate::{
    broker::{LeaseInfo, Page, Pausable, Space, TaskInfo, unsupported},
    task::{Name, TaskRef, TaskState, Timestamp},
};

/// The states of tasks that can be moved. Pending ones first: they would run next.
const STATES: [TaskState; 6] = [
    TaskState::Pending,
    TaskState::Retry,
    TaskState::Scheduled,
    TaskState::Aggregating,
    TaskState::Archived,
    TaskState::Completed,
];

/// The result of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Tasks were moved. There may be more.
    Moved,
    /// Tasks are active.
    Waiting,
    /// Nothing is left that can be moved.
    Over,
}

/// A queue that is being moved.
pub(super) struct QueueMove {
    name: Name,
    hand_over: HandOver,
    patience: Duration,
    /// The record of the queue, once this process has begun to move it.
    record: Option<Statistics>,
    stay: HashMap<TaskRef, Stays>,
    moved: u64,
}

/// The queues that have a record of a move.
pub(super) async fn recorded(from: &Side) -> Result<Vec<Name>, TransferError> {
    let records = from.documents(Space::Moves).await?;
    let names = records
        .iter()
        .filter_map(|(name, _)| statistics::queue_of(name));
    Ok(names.collect())
}

impl QueueMove {
    pub(super) fn new(name: Name, hand_over: HandOver, patience: Duration) -> Self {
        Self {
            name,
            hand_over,
            patience,
            record: None,
            stay: HashMap::new(),
            moved: 0,
        }
    }

    /// How many tasks were moved.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves all tasks that are not active. Deletes the queue at the source once it is empty.
    pub(super) async fn round(
        &mut self,
        ledger: &mut Ledger,
        on_moved: Option<&OnMoved>,
    ) -> Result<Round, TransferError> {
        ledger.renew().await?;
        let mut moved = self.begin(ledger, on_moved).await?;
        for state in STATES {
            moved += self.move_state(state, ledger, on_moved).await?;
        }
        let stats = self.hand_over.from.stats(&self.name).await?;
        if stats.total() == 0 {
            return self.retire().await;
        }
        if moved > 0 {
            return Ok(Round::Moved);
        }
        let waiting = stats.total() - stats.count(TaskState::Active);
        if waiting > self.stay.len() as u64 || self.has_live().await? {
            return Ok(Round::Waiting);
        }
        if let Some(record) = self.record.take_if(|record| record.is_unsent()) {
            record.forget().await?;
        }
        Ok(Round::Over)
    }

    /// Moves the statistics of an empty queue, and deletes the queue. It is paused until then: an attempt that is
    /// counted in between would be lost.
    async fn retire(&mut self) -> Result<Round, TransferError> {
        let from = &self.hand_over.from;
        let Some(record) = &mut self.record else {
            return Ok(Round::Moved);
        };
        record.halt().await?;
        if from.stats(&self.name).await?.total() == 0 {
            record.send().await?;
            if from.delete_queue(&self.name).await? {
                let pause = Pausable::Queue(self.name.clone());
                from.forget_pause(&pause).await?;
                if let Some(record) = self.record.take() {
                    record.forget().await?;
                }
                return Ok(Round::Over);
            }
        }
        record.unhalt().await?;
        Ok(Round::Moved)
    }

    /// Opens the record of the queue, and finishes what an earlier process has begun. Returns how many tasks were
    /// moved.
    async fn begin(
        &mut self,
        ledger: &mut Ledger,
        on_moved: Option<&OnMoved>,
    ) -> Result<u64, TransferError> {
        if self.record.is_some() {
            return Ok(0);
        }
        let (from, to) = (&self.hand_over.from, &self.hand_over.to);
        let record = Statistics::open(from, to, &self.name).await?;
        let record = self.record.insert(record);
        let stats = from.stats(&self.name).await?;
        let needs_groups = stats.count(TaskState::Aggregating) > 0;
        if needs_groups && !to.broker().capabilities().groups {
            return Err(to.failed(unsupported("groups")));
        }
        if record.is_halted() {
            record.unhalt().await?;
        } else if stats.paused {
            to.set_paused(&self.name, true).await?;
            from.copy_pause(to, &Pausable::Queue(self.name.clone()))
                .await?;
        }
        if !ledger.is_resumed {
            return Ok(0);
        }
        let batch = self.hand_over.resume(&self.name, ledger).await?;
        Ok(self.note(batch, on_moved))
    }

    /// Counts what was moved, and notes what stays. Returns how many tasks were moved.
    fn note(&mut self, batch: Batch, on_moved: Option<&OnMoved>) -> u64 {
        self.stay.extend(batch.stay);
        self.moved += batch.moved;
        if let Some(call) = on_moved.filter(|_| batch.moved > 0) {
            call(&self.name, batch.moved);
        }
        batch.moved
    }

    /// Moves the tasks in one state. Returns how many were moved.
    async fn move_state(
        &mut self,
        state: TaskState,
        ledger: &mut Ledger,
        on_moved: Option<&OnMoved>,
    ) -> Result<u64, TransferError> {
        let (mut sum, mut after) = (0, None);
        loop {
            ledger.renew().await?;
            let page = Page::first(BATCH).after(after.clone());
            let mut page = self.hand_over.from.list(&self.name, state, page).await?;
            page.tasks
                .retain(|task| !self.stay.contains_key(&task.envelope.task_ref()));
            let batch = self.hand_over.move_all(page.tasks, ledger).await?;
            let has_news = batch.moved > 0 || !batch.stay.is_empty();
            sum += self.note(batch, on_moved);
            // A list that has changed is read from the same place again.
            if !has_news {
                let Some(next) = page.next else {
                    return Ok(sum);
                };
                after = Some(next);
            }
        }
    }

    /// The active tasks, each with its lease.
    async fn active(&self) -> Result<Vec<(TaskInfo, LeaseInfo)>, TransferError> {
        let (mut active, mut after) = (Vec::new(), None);
        loop {
            let page = Page::first(BATCH).after(after.take());
            let page = self
                .hand_over
                .from
                .list(&self.name, TaskState::Active, page);
            let page = page.await?;
            let leased = page.tasks.into_iter();
            active.extend(leased.filter_map(|task| {
                let lease = task.lease.clone()?;
                Some((task, lease))
            }));
            after = page.next;
            if after.is_none() {
                return Ok(active);
            }
        }
    }

    /// Whether a task is active whose worker is alive, or whose lease a server may still reclaim.
    async fn has_live(&self) -> Result<bool, TransferError> {
        let active = self.active().await?;
        Ok(active.iter().any(|(_, lease)| self.is_live(lease.until)))
    }

    fn is_live(&self, until: Timestamp) -> bool {
        until + self.patience > self.hand_over.from.now()
    }

    /// What is left at the source, and why.
    pub(super) async fn left(&self) -> Result<Vec<Left>, TransferError> {
        let stay = self.stay.iter().map(|(task, why)| match why {
            Stays::Taken => Left::Taken(task.clone()),
            Stays::Unreadable => Left::Unreadable(task.clone()),
        });
        let mut left: Vec<_> = stay.collect();
        left.sort_by_key(ToString::to_string);
        let active = self.active().await?.into_iter();
        left.extend(active.map(|(task, lease)| Left::Active {
            task: task.envelope.task_ref(),
            worker: lease.worker,
            until: lease.until,
        }));
        Ok(left)
    }
}
