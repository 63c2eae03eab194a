//! The tasks of a queue by id.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

use bytes::Bytes;
use hashbrown::HashTable;

use super::Now;
use crate::{
    broker::{Finished, LeaseInfo, LeaseToken, TaskInfo, Version},
    process::Progress,
    task::{Envelope, Name, TaskId, TaskState, Timestamp},
};

/// A task and its place.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) envelope: Arc<Envelope>,
    pub(super) place: Place,
}

/// The state of a task with its details. Two words long, because most tasks wait.
#[derive(Debug)]
pub(super) enum Place {
    /// Pending since this time.
    Pending(Timestamp),
    /// Due at this time.
    Scheduled(Timestamp),
    /// Due at this time.
    Retry(Timestamp),
    Active(Box<Activity>),
    Completed(Box<Completion>),
    /// Archived at this time.
    Archived(Timestamp),
    /// In its group since this time.
    Aggregating(Timestamp),
}

/// The lease of an active task.
#[derive(Debug)]
pub(super) struct Activity {
    pub(super) token: LeaseToken,
    /// By the steady clock.
    pub(super) until: Timestamp,
    pub(super) worker: Name,
    pub(super) progress: Option<Progress>,
    /// The reason of a requested cancellation.
    pub(super) cancel: Option<String>,
}

/// A completed task that is kept.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) until: Timestamp,
    pub(super) result: Option<Bytes>,
}

impl Record {
    pub(super) fn state(&self) -> TaskState {
        match self.place {
            Place::Pending(_) => TaskState::Pending,
            Place::Scheduled(_) => TaskState::Scheduled,
            Place::Retry(_) => TaskState::Retry,
            Place::Active(_) => TaskState::Active,
            Place::Completed(_) => TaskState::Completed,
            Place::Archived(_) => TaskState::Archived,
            Place::Aggregating(_) => TaskState::Aggregating,
        }
    }

    /// The lease, if `token` is its current one.
    pub(super) fn lease(&mut self, token: LeaseToken) -> Option<&mut Activity> {
        match &mut self.place {
            Place::Active(activity) if activity.token == token => Some(activity),
            _ => None,
        }
    }

    /// How it finished, if it has.
    pub(super) fn end(&self) -> Option<Finished> {
        match &self.place {
            Place::Completed(kept) => Some(Finished::Completed {
                result: kept.result.clone(),
                codec: self.envelope.codec.clone(),
            }),
            Place::Archived(_) => {
                let failure = self.envelope.last_failure().cloned().map(Box::new);
                Some(Finished::Archived { failure })
            }
            _ => None,
        }
    }

    /// The information about the task.
    pub(super) fn info(&self, version: Version, now: Now) -> TaskInfo {
        let mut info = TaskInfo {
            envelope: Arc::clone(&self.envelope),
            version,
            state: self.state(),
            at: None,
            since: None,
            apart: None,
            lease: None,
            progress: None,
            result: None,
        };
        match &self.place {
            Place::Pending(since) | Place::Aggregating(since) => info.since = Some(*since),
            Place::Scheduled(at) | Place::Retry(at) | Place::Archived(at) => info.at = Some(*at),
            Place::Active(activity) => {
                let (worker, until) = (activity.worker.clone(), now.time_at(activity.until));
                info.lease = Some(LeaseInfo { worker, until });
                info.progress.clone_from(&activity.progress);
            }
            Place::Completed(completion) => {
                info.at = Some(completion.until);
                info.result.clone_from(&completion.result);
            }
        }
        info
    }
}

/// Finds tasks by the id in their envelope, so that a million ids of waiting tasks are not stored twice.
#[derive(Debug, Default)]
pub(super) struct Table {
    records: HashTable<Record>,
    hasher: RandomState,
}

impl Table {
    pub(super) fn get(&self, id: &TaskId) -> Option<&Record> {
        self.records
            .find(self.hasher.hash_one(id), |record| record.envelope.id == *id)
    }

    pub(super) fn get_mut(&mut self, id: &TaskId) -> Option<&mut Record> {
        self.records
            .find_mut(self.hasher.hash_one(id), |record| record.envelope.id == *id)
    }

    /// Adds a task whose id is new.
    pub(super) fn insert(&mut self, record: Record) {
        let hash = self.hasher.hash_one(&record.envelope.id);
        self.records
            .insert_unique(hash, record, |old| self.hasher.hash_one(&old.envelope.id));
    }

    pub(super) fn remove(&mut self, id: &TaskId) -> Option<Record> {
        let hash = self.hasher.hash_one(id);
        let entry = self
            .records
            .find_entry(hash, |record| record.envelope.id == *id)
            .ok()?;
        Some(entry.remove().0)
    }

    /// A hash that is stable for the lifetime of the table.
    pub(super) fn hash_of(&self, value: &impl Hash) -> u64 {
        self.hasher.hash_one(value)
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.iter()
    }

    /// Frees memory once most of it is unused.
    pub(super) fn shrink(&mut self) {
        if self.records.capacity() / 4 > self.records.len() {
            self.records.shrink_to(self.records.len() * 2, |record| {
                self.hasher.hash_one(&record.envelope.id)
            });
        }
    }
}
