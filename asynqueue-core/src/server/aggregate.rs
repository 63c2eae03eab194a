//! Making one task of the members of a group.

use std::{fmt, iter, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tracing::Instrument;

use super::{Shared, apart::Problem, is_closed, outcome::guarded, retrying::Retrying};
use crate::{
    broker::{Aggregation, BrokerError, Group, NewTask},
    metrics::{self, EnqueueResult},
    producer::{CallOptions, EnqueueError, Producer},
    task::{Envelope, FailureKind, Name, Task},
    trace,
};

/// The most groups of a queue to handle in one turn.
const MAX_GROUPS: usize = 20;

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
    /// Aggregates groups when they are due: those of each queue by themselves, so that none waits for another.
    pub(super) async fn aggregate_groups(self: Arc<Self>) {
        if self.aggregators.is_empty() {
            return;
        }
        let wakes: Vec<_> = self.queue_names.iter().map(|_| Notify::new()).collect();
        let queues = self.queue_names.iter().zip(&wakes);
        let looks = join_all(queues.map(|(queue, wake)| self.aggregate_in(queue, wake)));
        let pass_on = async {
            loop {
                self.group_due.notified().await;
                wakes.iter().for_each(Notify::notify_one);
            }
        };
        tokio::select! {
            _ = looks => {}
            () = pass_on => {}
        }
    }

    async fn aggregate_in(&self, queue: &Name, wake: &Notify) {
        let producer = Producer::with_max_payload(Arc::clone(&self.broker), usize::MAX);
        let mut retrying = Retrying::new("aggregate groups");
        let mut wait = Duration::ZERO;
        loop {
            let woken = async {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = wake.notified() => {}
                }
            };
            if !self.runs_until(woken).await || self.stopping.is_cancelled() {
                return;
            }
            wait = match self.aggregate_due(&producer, queue).await {
                Ok(wait) => {
                    retrying.worked_for(queue);
                    wait
                }
                Err(error) if is_closed(&error) => return,
                Err(error) => retrying.failed_for(queue, &error),
            };
        }
    }

    /// Aggregates the groups of a queue that are due, each whether or not others fail; returns how long to wait for the next.
    async fn aggregate_due(
        &self,
        producer: &Producer,
        queue: &Name,
    ) -> Result<Duration, BrokerError> {
        let events = (self.aggregators.iter()).map(|aggregator| aggregator.event.clone());
        let events: Vec<_> = events.collect();
        let queues = std::slice::from_ref(queue);
        let due = self.broker.due_groups(queues, &events, MAX_GROUPS).await?;
        let has_found_some = !due.groups.is_empty();
        let mut failed = None;
        for group in due.groups {
            if let Err(error) = self.aggregate_one(producer, group).await {
                if is_closed(&error) {
                    return Err(error);
                }
                failed = Some(error);
            }
        }
        if let Some(error) = failed {
            return Err(error);
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
    async fn aggregate_one(
        &self,
        producer: &Producer,
        mut group: Group,
    ) -> Result<(), BrokerError> {
        let mut aggregators = self.aggregators.iter();
        let Some(aggregator) = aggregators.find(|aggregator| aggregator.event == group.event)
        else {
            return Ok(());
        };
        loop {
            let combined = guarded("an aggregating function", || {
                (aggregator.combine)(producer, &group)
            });
            let problem = match combined {
                Some(Ok(task)) => return self.put_in_place(group, task).await,
                Some(Err(CannotCombine::Unreadable(members))) => {
                    let good = without(&mut group, &members);
                    self.failed_together(group, Problem::Unreadable(members))
                        .await?;
                    if good.members.is_empty() {
                        return Ok(());
                    }
                    // The others are not to wait for them.
                    group = good;
                    continue;
                }
                Some(Err(CannotCombine::Refused(error))) => {
                    Problem::OneOfThem(FailureKind::Error, error.to_string())
                }
                None => Problem::OneOfThem(FailureKind::Panic, "its function panicked".into()),
            };
            return self.failed_together(group, problem).await;
        }
    }

    async fn put_in_place(&self, group: Group, mut task: NewTask) -> Result<(), BrokerError> {
        trace::link(&mut task.envelope, &group);
        let (queue, event) = (group.queue.clone(), task.envelope.event.clone());
        let span = trace::send(&queue, 1, iter::once(&mut task.envelope));
        let aggregation = Aggregation {
            group: group.clone(),
            task,
        };
        let aggregated = self.broker.aggregate(aggregation).instrument(span);
        match aggregated.await {
            // Unless another server has done it before.
            Ok(Ok(is_new)) => {
                if is_new {
                    metrics::aggregated(&queue, &group.event, group.members.len());
                    metrics::enqueued(&queue, &event, EnqueueResult::Accepted);
                }
                Ok(())
            }
            Ok(Err(conflict)) => {
                let problem = Problem::Conflict(conflict.to_string());
                self.failed_together(group, problem).await
            }
            // It will not get better, and another part of the group may do.
            Err(BrokerError::Protocol(reason)) => {
                let problem = Problem::OneOfThem(FailureKind::Error, reason.to_string());
                self.failed_together(group, problem).await
            }
            Err(error @ BrokerError::Full(_)) => self.postpone(&group, &error.to_string()).await,
            Err(error) => Err(error),
        }
    }
}

/// Takes those members out of a group that are not among `members`, as a group.
fn without(group: &mut Group, members: &[(Arc<Envelope>, String)]) -> Group {
    let is_bad = |task: &Arc<Envelope>| members.iter().any(|(bad, _)| Arc::ptr_eq(bad, task));
    let (bad, good) = std::mem::take(&mut group.members)
        .into_iter()
        .partition(is_bad);
    group.members = bad;
    Group {
        members: good,
        ..group.clone()
    }
}

impl fmt::Debug for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aggregator")
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}
