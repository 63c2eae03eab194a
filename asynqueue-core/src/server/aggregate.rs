//! Making one task of the members of a group.

use std::{fmt, iter, sync::Arc, time::Duration};

use tracing::Instrument;

use super::{Shared, is_closed, outcome::guarded, retrying::Retrying};
use crate::{
    broker::{Aggregation, BrokerError, Group, Move, NewTask, Replacement},
    metrics::{self, EnqueueResult},
    producer::{CallOptions, EnqueueError, Producer},
    task::{Envelope, Failure, FailureKind, Name, Task, TaskState},
    trace,
};

/// The most groups to see to in one turn.
const MAX_GROUPS: usize = 20;

/// How long a group waits whose function has failed, or whose new task is refused.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// What makes one task of several.
pub(super) struct Aggregator {
    pub(super) event: Name,
    /// Where tasks of its event go by default.
    pub(super) queue: Name,
    combine: Box<Combine>,
}

type Combine = dyn Fn(&Producer, &Group) -> Result<NewTask, CannotCombine> + Send + Sync;

enum CannotCombine {
    /// These members are no payloads of their event.
    Unreadable(Vec<(Arc<Envelope>, String)>),
    /// The new task cannot be made.
    Refused(EnqueueError),
}

impl Aggregator {
    pub(super) fn new<T: Task, U: Task>(
        combine: impl Fn(Vec<T>) -> U + Send + Sync + 'static,
    ) -> Self {
        Self {
            event: Name::from_static(T::EVENT),
            queue: T::options().queue.clone(),
            combine: Box::new(move |producer, group| {
                let whole = combine(decode(group)?);
                let mut call = CallOptions::default().queue(group.queue.clone());
                if !group.name.is_empty() {
                    call = call.group(group.name.clone());
                }
                let task = call.build(producer, &whole);
                task.map_err(CannotCombine::Refused)
            }),
        }
    }
}

fn decode<T: Task>(group: &Group) -> Result<Vec<T>, CannotCombine> {
    let (mut payloads, mut unreadable) = (Vec::with_capacity(group.members.len()), Vec::new());
    for member in &group.members {
        match member.codec.decode::<T, T::Codec>(&member.payload) {
            Ok(payload) => payloads.push(payload),
            Err(error) => {
                let reason = format!("payload is not a `{}`: {error}", T::EVENT);
                unreadable.push((Arc::clone(member), reason));
            }
        }
    }
    if unreadable.is_empty() {
        Ok(payloads)
    } else {
        Err(CannotCombine::Unreadable(unreadable))
    }
}

impl Shared {
    /// Aggregates groups when they are due.
    pub(super) async fn aggregate_groups(self: Arc<Self>) {
        if self.aggregators.is_empty() {
            return;
        }
        let events: Vec<_> = (self.aggregators.iter())
            .map(|aggregator| aggregator.event.clone())
            .collect();
        let producer = Producer::with_max_payload(Arc::clone(&self.broker), usize::MAX);
        let mut retrying = Retrying::new("aggregate groups");
        let mut wait = Duration::ZERO;
        loop {
            let woken = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.group_due.notified() => {}
                }
            };
            if !self.runs_until(woken).await || self.stopping.is_cancelled() {
                return;
            }
            wait = match self.aggregate_due(&producer, &events).await {
                Ok(wait) => {
                    retrying.worked();
                    wait
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed(&error),
            };
        }
    }

    /// Sees to the groups that are due; returns how long to wait for the next.
    async fn aggregate_due(
        &self,
        producer: &Producer,
        events: &[Name],
    ) -> Result<Duration, BrokerError> {
        let due = self
            .broker
            .due_groups(&self.queue_names, events, MAX_GROUPS)
            .await?;
        let has_found_some = !due.groups.is_empty();
        for group in due.groups {
            self.aggregate_one(producer, group).await?;
        }
        if has_found_some {
            // Of a group that had more members than become one task, the rest may be due by now.
            return Ok(Duration::ZERO);
        }
        let until_due = due.next_due.map(|due| due.since(self.broker.now()));
        Ok(until_due
            .unwrap_or(Duration::MAX)
            .min(self.settings.poll_interval))
    }

    /// Nothing has changed until the broker has put one task in place of all members: a server that dies before leaves
    /// the group to another.
    async fn aggregate_one(&self, producer: &Producer, group: Group) -> Result<(), BrokerError> {
        let mut aggregators = self.aggregators.iter();
        let Some(aggregator) = aggregators.find(|aggregator| aggregator.event == group.event)
        else {
            return Ok(());
        };
        let combined = guarded("an aggregating function", || {
            (aggregator.combine)(producer, &group)
        });
        let mut task = match combined {
            Some(Ok(task)) => task,
            Some(Err(CannotCombine::Unreadable(members))) => {
                return put_away(self, members).await;
            }
            Some(Err(CannotCombine::Refused(error))) => {
                return self.postpone(&group, &error.to_string()).await;
            }
            None => return self.postpone(&group, "its function panicked").await,
        };
        trace::link(&mut task.envelope, &group);
        let (queue, event) = (group.queue.clone(), task.envelope.event.clone());
        let span = trace::send(&queue, 1, iter::once(&mut task.envelope));
        let aggregation = Aggregation {
            group: group.clone(),
            task,
        };
        let aggregated = self.broker.aggregate(aggregation).instrument(span);
        match aggregated.await? {
            // Unless another server has done it before.
            Ok(is_new) => {
                if is_new {
                    metrics::aggregated(&queue, &group.event, group.members.len());
                    metrics::enqueued(&queue, &event, EnqueueResult::Accepted);
                }
                Ok(())
            }
            Err(conflict) => self.postpone(&group, &conflict.to_string()).await,
        }
    }

    async fn postpone(&self, group: &Group, reason: &str) -> Result<(), BrokerError> {
        tracing::error!(queue = %group.queue, event = %group.event, group = %group.name, tasks = group.members.len(), reason,
            "a group could not become one task; it is tried again later");
        self.broker.postpone(group, TRY_AGAIN).await
    }
}

/// Archives members that cannot be read, each by itself, so that they don't keep the others.
async fn put_away(
    shared: &Shared,
    members: Vec<(Arc<Envelope>, String)>,
) -> Result<(), BrokerError> {
    let now = shared.broker.now();
    let change = |(seen, message): (Arc<Envelope>, String)| {
        let mut envelope = Envelope::clone(&seen);
        envelope.push_failure(Failure {
            attempt: 0,
            started: None,
            at: now,
            kind: FailureKind::Decode,
            message,
            backtrace: None,
            worker: None,
        });
        Replacement {
            seen,
            state: TaskState::Aggregating,
            envelope: Arc::new(envelope),
            to: Some(Move::Archived),
        }
    };
    let changes: Vec<_> = members.into_iter().map(change).collect();
    let envelopes = changes.iter().map(|change| Arc::clone(&change.envelope));
    let envelopes: Vec<_> = envelopes.collect();
    let done = shared.broker.replace(changes).await?;
    for (task, _) in envelopes.iter().zip(done).filter(|(_, done)| *done) {
        shared.archived(task, false);
    }
    Ok(())
}

impl fmt::Debug for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregator")
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}
