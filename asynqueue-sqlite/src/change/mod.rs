//! A transaction that changes the tables: what it knows of them, and what to announce once it is committed.

mod end;
mod enqueue;
mod group;
mod lock;
mod queue;

use asynqueue_core::{
    broker::Signal,
    task::{Envelope, TaskState, Timestamp},
};

pub(crate) use asynqueue_core::broker::kit::Announced as Event;

pub(crate) use self::{
    enqueue::{NewRow, holds},
    group::{GroupKey, WHOLE},
    queue::{COUNTED, NEXT_DUE, Queue},
};
use crate::sql::{Fault, Id, Sql, int, time};

/// A transaction, together with the rows of the queues that it uses. They are written when it ends.
pub(crate) struct Change<S> {
    pub(crate) sql: S,
    /// The time of the current call.
    pub(crate) now: Timestamp,
    /// The last number that was given out, once it is known.
    number: Option<Numbers>,
    pub(crate) queues: Vec<Queue>,
    sides: [Option<bool>; Side::COUNT],
    /// What to announce after the commit.
    pub(crate) events: Vec<Event>,
}

#[derive(Clone, Copy)]
struct Numbers {
    stored: i64,
    last: i64,
}

/// A table that is usually empty, and then need not be searched for a task.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Running,
    Change,
    Waiter,
    Settled,
}

impl Side {
    const COUNT: usize = 4;

    fn query(self) -> &'static str {
        match self {
            Self::Running => "select exists(select 1 from asynqueue_running)",
            Self::Change => "select exists(select 1 from asynqueue_change)",
            Self::Waiter => "select exists(select 1 from asynqueue_waiter)",
            Self::Settled => "select exists(select 1 from asynqueue_settled)",
        }
    }
}

/// The state of a task as its row has it. An active task has the state of a pending one, and a lease.
pub(crate) mod state {
    pub(crate) const PENDING: i64 = 2;
    pub(crate) const SCHEDULED: i64 = 3;
    pub(crate) const RETRY: i64 = 4;
    pub(crate) const COMPLETED: i64 = 5;
    pub(crate) const ARCHIVED: i64 = 6;
    pub(crate) const AGGREGATING: i64 = 7;
}

/// The state of a task whose row has this number, unless it has a lease.
pub(crate) fn task_state(number: i64) -> TaskState {
    match number {
        state::PENDING => TaskState::Pending,
        state::SCHEDULED => TaskState::Scheduled,
        state::RETRY => TaskState::Retry,
        state::COMPLETED => TaskState::Completed,
        state::ARCHIVED => TaskState::Archived,
        state::AGGREGATING => TaskState::Aggregating,
        _ => TaskState::Other,
    }
}

impl<S: Sql> Change<S> {
    pub(crate) fn new(sql: S, now: Timestamp) -> Self {
        Self {
            sql,
            now,
            number: None,
            queues: Vec::new(),
            sides: [None; Side::COUNT],
            events: Vec::new(),
        }
    }

    /// A number that was never given out before.
    pub(crate) async fn number(&mut self) -> Result<i64, Fault> {
        let mut numbers = match self.number {
            Some(numbers) => numbers,
            None => {
                let row = self
                    .sql
                    .row("select number from asynqueue_meta", &[])
                    .await?;
                let stored = row.map_or(0, |row| row.int(0));
                Numbers {
                    stored,
                    last: stored,
                }
            }
        };
        numbers.last += 1;
        self.number = Some(numbers);
        Ok(numbers.last)
    }

    /// The last number that this transaction has drawn. `None` if it has drawn none.
    pub(crate) fn last_number(&self) -> Option<i64> {
        self.number.map(|numbers| numbers.last)
    }

    /// Whether a table may have rows.
    pub(crate) async fn has(&mut self, side: Side) -> Result<bool, Fault> {
        if let Some(known) = self.sides[side as usize] {
            return Ok(known);
        }
        let row = self.sql.row(side.query(), &[]).await?;
        let has = row.is_some_and(|row| row.int(0) != 0);
        self.sides[side as usize] = Some(has);
        Ok(has)
    }

    /// Notes that a table has rows now.
    pub(crate) fn note(&mut self, side: Side) {
        self.sides[side as usize] = Some(true);
    }

    /// Writes what was kept until the end of the transaction.
    pub(crate) async fn finish(&mut self) -> Result<(), Fault> {
        if let Some(numbers) = self
            .number
            .as_mut()
            .filter(|numbers| numbers.last != numbers.stored)
        {
            let last = numbers.last;
            numbers.stored = last;
            self.sql
                .run("update asynqueue_meta set number = ?1", &[int(last)])
                .await?;
        }
        for place in 0..self.queues.len() {
            self.write_queue(place).await?;
        }
        Ok(())
    }

    /// Sets the state of a task, and the time and the turn that belong to it.
    pub(crate) async fn set_state(
        &mut self,
        queue: usize,
        id: Id<'_>,
        state: i64,
        at: Timestamp,
        turn: i64,
    ) -> Result<(), Fault> {
        let queue = self.queues[queue].id;
        let values = [int(queue), id.value(), int(state), time(at), int(turn)];
        self.sql
            .run(
                "update asynqueue_task set state = ?3, at = ?4, turn = ?5 where queue = ?1 and id = ?2",
                &values,
            )
            .await?;
        Ok(())
    }

    /// The turn of a task behind all others.
    pub(crate) async fn last_turn(&mut self) -> Result<i64, Fault> {
        self.number().await
    }

    /// Lists a task as pending. Its row has this turn.
    pub(crate) async fn list_pending(
        &mut self,
        queue: usize,
        id: Id<'_>,
        priority: u8,
        turn: i64,
    ) -> Result<(), Fault> {
        let row = [
            int(self.queues[queue].id),
            int(rank(priority)),
            int(turn),
            id.value(),
        ];
        self.sql
            .run("insert into asynqueue_ready values (?1, ?2, ?3, ?4)", &row)
            .await?;
        let queue = &mut self.queues[queue];
        if queue.count(TaskState::Pending) == 0 && !queue.row.paused {
            let name = queue.name.clone();
            let signal = Signal::Pending(name.clone());
            self.events.push(Event::Signal(name, signal));
        }
        queue.add(TaskState::Pending, 1);
        Ok(())
    }

    /// Makes a stored task pending, behind the others or before them.
    pub(crate) async fn make_pending(
        &mut self,
        queue: usize,
        envelope: &Envelope,
        is_first: bool,
    ) -> Result<(), Fault> {
        let (id, turn) = (Id::of(&envelope.id), self.last_turn().await?);
        let turn = if is_first { -turn } else { turn };
        self.set_state(queue, id, state::PENDING, self.now, turn)
            .await?;
        self.list_pending(queue, id, envelope.options.priority, turn)
            .await
    }

    /// Notes that a task waits until it is due. Call it before the task's row is changed.
    pub(crate) async fn note_due(&mut self, queue: usize, due: Timestamp) -> Result<(), Fault> {
        let next = self.next_due(queue).await?;
        if next.is_none_or(|next| due < next) {
            let queue = &mut self.queues[queue];
            queue.next_due = Some(Some(due));
            let name = queue.name.clone();
            let signal = Signal::Due(name.clone(), due);
            self.events.push(Event::Signal(name, signal));
        }
        Ok(())
    }

    /// Moves a stored task where it waits until it is due.
    pub(crate) async fn wait_until(
        &mut self,
        queue: usize,
        id: Id<'_>,
        state: i64,
        due: Timestamp,
    ) -> Result<(), Fault> {
        self.note_due(queue, due).await?;
        self.set_state(queue, id, state, due, 0).await?;
        self.queues[queue].add(task_state(state), 1);
        Ok(())
    }
}

/// Tasks with a high priority sort first.
pub(crate) fn rank(priority: u8) -> i64 {
    -i64::from(priority)
}
