//! An operator: enqueues tasks, then edits, moves, deletes, cancels and repeats them while they wait, run or are done.

use std::time::Duration;

use asynqueue_core::{
    broker::CancelOutcome,
    inspector::{Action, ActionOutcome, Inspector},
    producer::TaskHandle,
};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Child, producer::Desk};
use crate::chaos::{
    dice::Dice,
    load::{Kind, QUEUES, Work},
};

/// How many tasks it operates on concurrently.
const LOOPS: u64 = 10;

/// Operates until it is requested to end.
pub(crate) async fn run(child: Child) {
    let desk = Desk::new(&child);
    let mut loops = JoinSet::new();
    for n in 0..LOOPS {
        let dice = Dice::new(child.dice.clone().below(u64::MAX) ^ n, "loop");
        let inspector = Inspector::new(child.broker.clone());
        loops.spawn(operate(desk.clone(), inspector, dice));
    }
    desk.until_end_requested(loops).await;
}

async fn operate(desk: Desk, inspector: Inspector, mut dice: Dice) {
    while desk.is_open() {
        let kind = *dice.pick(&Kind::OPERATED).expect("kinds");
        let id = desk.id(kind);
        let place = dice.below(QUEUES.len() as u64) as usize;
        let (from, to) = (QUEUES[place], QUEUES[(place + 1) % QUEUES.len()]);
        let waits = kind != Kind::GivesUp && (kind != Kind::Cancelled || dice.below(2) == 0);
        let delay = if waits {
            dice.millis(500, 2_500)
        } else {
            Duration::ZERO
        };
        let task = desk.work(&id, from);
        let task = desk.send(&id, (from, "-"), delay, task).await;
        tokio::time::sleep(dice.millis(0, 2_000)).await;
        if let Some(task) = task {
            act(&desk, &inspector, kind, &task, to).await;
        }
    }
}

async fn act(desk: &Desk, inspector: &Inspector, kind: Kind, task: &TaskHandle<Work>, to: &str) {
    let (id, refs) = (task.id(), [task.task_ref().clone()]);
    desk.journal.note(format!("ask {id} {to}")).await;
    let word = if kind == Kind::Cancelled {
        match task.cancel("by the operator").await {
            Ok(CancelOutcome::Cancelled) => "cancelled",
            Ok(CancelOutcome::Requested) => "requested",
            Ok(CancelOutcome::AlreadyFinished) => "finished",
            Ok(CancelOutcome::NotFound) => "missing",
            Ok(_) | Err(_) => "unsure",
        }
    } else {
        let action = match kind {
            Kind::Edited => Action::EditPayload(json!({"id": id.as_str(), "version": 1})),
            Kind::Moved => Action::MoveTo(to.into()),
            Kind::Deleted => Action::Delete,
            _ => Action::RunNow,
        };
        match inspector.apply(&action, &refs).await.as_deref() {
            Ok([ActionOutcome::Done]) => "done",
            Ok([ActionOutcome::NotFound]) => "missing",
            Ok(_) => "refused",
            Err(_) => "unsure",
        }
    };
    desk.journal.note(format!("did {id} {to} {word}")).await;
}
