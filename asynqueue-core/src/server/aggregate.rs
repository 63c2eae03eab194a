//! Combining the members of a group into one task.

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

/// The maximum number of groups of a queue to handle in one turn.
const MAX_GROUPS: usize = 20;

/// An aggregating function, and the event it aggregates.
pub(super) struct Aggregator {
    pub(super) event: Name,
    /// The default queue of the event's tasks.
    pub(super) queue: Name,
    combine: Box<Combine>,
}

type Combine = dyn Fn(&Producer, &Group) -> Result<NewTask, CannotCombine> + Send + Sync;

enum CannotCombine {
    /// The payloads of these members cannot be decoded.
    Unreadable(Vec<(Arc<Envelope>, String)>),
    /// The combined task cannot be built.
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
                let combined = combine(decode(group)?);
                let mut call = CallOptions::default().queue(group.queue.clone());
                if !group.name.is_empty() {
                    call = call.group(group.name.clone());
                }
                let task = call.build(producer, &combined);
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
                let reason = format!("invalid payload of `{}`: {error}", T::EVENT);
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
    /// Aggregates due groups, in an independent loop per queue.
    pub(super) async fn aggregate_groups(self: Arc<Self>) {
        if self.aggregators.is_empty() {
            return;
        }
        let wakes: Vec<_> = self.queue_names.iter().map(|_| Notify::new()).collect();
        let queues = self.queue_names.iter().zip(&wakes);
        let loops = join_all(queues.map(|(queue, wake)| self.aggregate_in(queue, wake)));
        let wake_all = async {
            loop {
                self.group_due.notified().await;
                wakes.iter().for_each(Notify::notify_one);
            }
        };
        tokio::select! {
            _ = loops => {}
            () = wake_all => {}
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

    /// Aggregates the due groups of a queue; a failing group does not stop the others. Returns how long to wait for the
    /// next.
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
            // A group with more members than fit into one task may be due again.
            return Ok(Duration::ZERO);
        }
        let until_due = due.next_due.map(|due| due.since(self.broker.now()));
        Ok(until_due
            .unwrap_or(Duration::MAX)
            .min(self.settings.poll_interval))
    }

    /// Combines one group. Nothing changes until the broker replaces all members with one task, so a server that dies
    /// before that leaves the group to another.
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
            let combined = guarded("aggregate", || (aggregator.combine)(producer, &group));
            let problem = match combined {
                Some(Ok(task)) => return self.put_in_place(group, task).await,
                Some(Err(CannotCombine::Unreadable(members))) => {
                    let good = without(&mut group, &members);
                    self.failed_together(group, Problem::Unreadable(members))
                        .await?;
                    if good.members.is_empty() {
                        return Ok(());
                    }
                    // The decodable members need not wait.
                    group = good;
                    continue;
                }
                Some(Err(CannotCombine::Refused(error))) => {
                    Problem::OneOfThem(FailureKind::Error, error.to_string())
                }
                None => Problem::OneOfThem(
                    FailureKind::Panic,
                    "the aggregating function panicked".into(),
                ),
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
            // It is not new if another server was faster.
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
            // A retry would fail the same way, but another part of the group may succeed.
            Err(BrokerError::Protocol(reason)) => {
                let problem = Problem::OneOfThem(FailureKind::Error, reason.to_string());
                self.failed_together(group, problem).await
            }
            Err(error @ BrokerError::Full(_)) => self.postpone(&group, &error.to_string()).await,
            Err(error) => Err(error),
        }
    }
}

/// Splits a group: leaves `members` in it and returns the others as a group.
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
