//! Changes on demand: of single tasks, each only if it still has the version that was seen, and the deletion of a
//! queue.

use std::{borrow::Cow, collections::HashSet};

use asynqueue_core::{
    broker::{BrokerError, Change, Edit, Edited, Move},
    task::{Name, UniqueUntil},
};
use redis::Value;

use super::{MAX_CHUNK_BYTES, MAX_MILLIS, RedisBroker, millis, queue::Queue};
use crate::{reply, script};

/// The limit of tasks in one call. Each takes several commands.
const MAX_CHUNK: usize = 200;

impl RedisBroker {
    pub(super) async fn edit_all(&self, edits: &[Edit]) -> Result<Vec<Edited>, BrokerError> {
        self.each_queue(
            edits.iter().collect(),
            |edit: &&Edit| &edit.seen.envelope.queue,
            |queue, edits| async move {
                let mut edited = Vec::with_capacity(edits.len());
                while edited.len() < edits.len() {
                    let left = &edits[edited.len()..];
                    edited.extend(self.edit_chunk(&queue, &left[..chunk(left)]).await?);
                }
                Ok(edited)
            },
        )
        .await
    }

    async fn edit_chunk(&self, queue: &Queue, edits: &[&Edit]) -> Result<Vec<Edited>, BrokerError> {
        let lane = queue.changes.next();
        let args = script::edit::Args {
            not_after: self.script_clock(),
            publish: self.link().publish_command(),
            lane: lane.name(),
            number: lane.number(),
        };
        let mut call = script::edit::call(&queue.keys, args);
        edits.iter().for_each(|edit| write(&mut call, edit));
        let answer = reply::text(call.send(self.link()).await?)?;
        lane.answered();
        let edited: Vec<_> = answer.chars().filter_map(edited).collect();
        if edited.len() != edits.len() {
            let problem = format!("unexpected response to {} edits: `{answer}`", edits.len());
            return Err(BrokerError::protocol(problem));
        }
        Ok(edited)
    }

    pub(super) async fn delete_whole(&self, name: &Name, force: bool) -> Result<bool, BrokerError> {
        let queue = self.queue(name);
        let keys = &queue.keys;
        let [tasks, waiters, others @ ..] = keys.all();
        let keys = script::delete_queue::Keys {
            tasks,
            waiters,
            done: &keys.done,
            deleted: &keys.deleted,
            others: &others,
        };
        let lane = queue.changes.next();
        let args = script::delete_queue::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            publish: self.link().publish_command(),
            force: if force { "y" } else { "" },
            millis: millis(self.0.retry_for.saturating_mul(2)).max(1_000),
        };
        let call = script::delete_queue::call(keys, args);
        let is_deleted = call.send(self.link()).await? == Value::Int(1);
        lane.answered();
        if !is_deleted {
            return Ok(false);
        }
        (*queue.listed.lock(), *queue.named.lock()) = (None, None);
        self.set_listed(name, false).await?;
        Ok(true)
    }
}

/// How many of the edits go into one call. No task occurs twice, because each is compared with its state before the
/// call.
fn chunk(edits: &[&Edit]) -> usize {
    let (mut bytes, mut ids) = (0, HashSet::new());
    for (count, edit) in edits.iter().take(MAX_CHUNK).enumerate() {
        // The script reads the task even if the edit has no new one.
        let seen = edit.seen.envelope.payload.len();
        let new = edit.new_envelope().map_or(0, |new| new.payload.len());
        bytes += seen.max(new);
        let is_first = ids.insert(&edit.seen.envelope.id);
        if count > 0 && (bytes > MAX_CHUNK_BYTES || !is_first) {
            return count;
        }
    }
    edits.len().min(MAX_CHUNK)
}

fn write(call: &mut script::Call<script::edit::Of>, edit: &Edit) {
    let seen = &edit.seen.envelope;
    // A task that leaves the archive takes the lock of its new envelope. Any other change releases the one that it has.
    let locked = match edit.change {
        Change::Put {
            to: Some(Move::Pending | Move::Scheduled(_)),
            ..
        } => edit.new_envelope().map_or(seen, |new| new),
        _ => seen,
    };
    let lock = locked.unique.as_ref();
    let ends = lock.is_some_and(|lock| lock.until != UniqueUntil::Window);
    call.row(script::edit::Task {
        edit: name(&edit.change),
        id: seen.id.as_str(),
        version: format!("{:016x}", edit.seen.version.0),
        new: match &edit.change {
            Change::Cancel { reason } => reason.clone().into_bytes(),
            _ => (edit.new_envelope()).map_or_else(Vec::new, |new| new.to_bytes()),
        },
        priority: seen.options.priority,
        lock: lock.map_or("", |lock| lock.key.as_str()),
        ends: if ends { "y" } else { "" },
        ttl: lock.map_or(0, |lock| millis(lock.ttl)),
    });
}

/// The script's name of a change.
fn name(change: &Change) -> Cow<'static, str> {
    match change {
        Change::Cancel { .. } => "cancel".into(),
        Change::Delete => "delete".into(),
        Change::Put { to, .. } => match to {
            None => "put".into(),
            Some(Move::Pending) => "pend".into(),
            Some(Move::Archived) => "shelve".into(),
            Some(Move::Scheduled(at)) => at.as_millis().min(MAX_MILLIS).to_string().into(),
        },
    }
}

fn edited(answer: char) -> Option<Edited> {
    match answer {
        'y' => Some(Edited::Done),
        '?' => Some(Edited::Changed),
        'l' => Some(Edited::Locked),
        'n' => Some(Edited::Refused),
        _ => None,
    }
}
