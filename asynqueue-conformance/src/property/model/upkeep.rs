//! What happens in the model as time passes.

use std::cmp::Reverse;

use asynqueue_core::{
    broker::{Forwarded, Keep},
    task::{Name, TaskState},
};

use super::{
    Model,
    entry::{Entry, Place},
};
use crate::property::QUEUES;

impl Model {
    /// The tasks whose lease has expired, queue by queue, up to `limit` for each.
    pub(super) fn expired(&self, limit: usize) -> Vec<Entry> {
        let now = self.now;
        let has_ended =
            |entry: &Entry| matches!(entry.place, Place::Active { until, .. } if until <= now);
        let ended = |queue: &&str| {
            let active = self.list(&Name::from(*queue), TaskState::Active);
            active.into_iter().filter(has_ended).take(limit)
        };
        QUEUES.iter().flat_map(ended).collect()
    }

    /// In each queue by due time, a scheduled task before a retry.
    pub(super) fn forward(&mut self, limit: usize) -> Vec<Forwarded> {
        let forward = |queue: &&str| self.forward_queue(&Name::from(*queue), limit);
        QUEUES.iter().map(forward).collect()
    }

    fn forward_queue(&mut self, queue: &Name, limit: usize) -> Forwarded {
        let of_queue = |entry: &&Entry| entry.envelope.queue == *queue;
        let tasks = self.tasks.iter().filter(of_queue);
        let is_due = |entry: &&Entry| entry.due().is_some_and(|due| due <= self.now);
        let mut due: Vec<_> = tasks.filter(is_due).cloned().collect();
        due.sort_by_key(|entry| {
            (
                entry.due(),
                entry.state() == TaskState::Retry,
                entry.envelope.id.clone(),
            )
        });
        due.truncate(limit);
        for entry in &due {
            let place = self
                .find(&entry.envelope.task_ref())
                .expect("a listed task is in the list of all");
            self.tasks[place].place = self.last_turn();
        }
        let tasks = self.tasks.iter().filter(of_queue);
        Forwarded {
            moved: due.len(),
            next_due: tasks.filter_map(Entry::due).min(),
        }
    }

    pub(super) fn trim(&mut self, keep: Keep) -> usize {
        (0..QUEUES.len())
            .map(|index| self.trim_queue(index, keep))
            .sum()
    }

    fn trim_queue(&mut self, index: usize, keep: Keep) -> usize {
        let (before, now, queue) = (self.tasks.len(), self.now, QUEUES[index]);
        let mut archived = self.list(&queue.into(), TaskState::Archived);
        archived.sort_by_key(|entry| Reverse(entry.order()));
        let is_old = |entry: &Entry| match entry.place {
            Place::Archived { at } => at <= now - keep.archived_for,
            _ => false,
        };
        let (newest, beyond) = archived.split_at(archived.len().min(keep.archived_max));
        let by_age = newest.iter().filter(|entry| is_old(entry)).count() as u64;
        let kept = newest.iter().filter(|entry| !is_old(entry));
        let kept: Vec<_> = kept.map(|entry| entry.envelope.id.clone()).collect();
        self.tasks.retain(|entry| {
            entry.envelope.queue != queue
                || match entry.place {
                    Place::Completed { until, .. } => until > now,
                    Place::Archived { .. } => kept.contains(&entry.envelope.id),
                    _ => true,
                }
        });
        let stats = &mut self.archives[index];
        if !archived.is_empty() {
            stats.max = Some(keep.archived_max as u64);
        }
        stats.trimmed_by_count += beyond.len() as u64;
        stats.trimmed_by_age += by_age;
        if beyond.len() as u64 + by_age > 0 {
            stats.last_trimmed = Some(now);
        }
        before - self.tasks.len()
    }
}
