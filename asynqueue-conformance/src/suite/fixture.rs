//! A broker under test, with short helpers.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Conflict, Keep, LeaseRequest, LeaseToken, Leased, NewTask, Outcome, Page, QueueStats,
        Settled, Settlement, SharedBroker, TaskInfo, Trimmed, When, all_of,
    },
    codec::{Codec, CodecName, MessagePack},
    task::{
        Envelope, Failure, FailureKind, Name, TaskId, TaskOptions, TaskRef, TaskState, Timestamp,
        UniqueKey, UniqueLock, UniqueUntil,
    },
};
use bytes::Bytes;

use super::Harness;

pub(crate) const QUEUE: &str = "q";
pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) struct Fixture<'a> {
    pub(crate) broker: SharedBroker,
    harness: &'a dyn Harness,
}

impl<'a> Fixture<'a> {
    pub(crate) async fn new(harness: &'a dyn Harness) -> Self {
        Self {
            broker: harness.broker().await,
            harness,
        }
    }

    pub(crate) async fn advance(&self, by: Duration) {
        self.harness.advance(by).await;
    }

    pub(crate) async fn try_enqueue(&self, tasks: Vec<NewTask>) -> Vec<Result<(), Conflict>> {
        let sent = tasks.len();
        let answers = self.broker.enqueue(tasks).await.unwrap();
        assert_eq!(answers.len(), sent, "one result per task");
        answers
    }

    /// Enqueues tasks that must be accepted.
    pub(crate) async fn enqueue(&self, tasks: impl IntoIterator<Item = Envelope>) {
        for answer in self.try_enqueue(tasks.into_iter().map(now).collect()).await {
            answer.unwrap();
        }
    }

    pub(crate) async fn enqueue_after(&self, task: Envelope, delay: Duration) {
        self.try_enqueue(vec![NewTask::new(task, When::After(delay))])
            .await[0]
            .clone()
            .unwrap();
    }

    pub(crate) async fn lease(&self, max: usize) -> Vec<Leased> {
        self.lease_from(&[(QUEUE, max)], max).await
    }

    pub(crate) async fn lease_from(&self, queues: &[(&str, usize)], max: usize) -> Vec<Leased> {
        let queues = queues
            .iter()
            .map(|(name, cap)| (Name::from(*name), *cap))
            .collect();
        all_of(
            self.broker
                .lease(&LeaseRequest::new(queues, max, LEASE, "tester".into()))
                .await,
        )
        .unwrap()
        .concat()
    }

    /// Leases the only pending task.
    pub(crate) async fn lease_one(&self) -> Leased {
        let mut leased = self.lease(1).await;
        leased.pop().expect("a pending task")
    }

    pub(crate) async fn settle(&self, leased: &Leased, outcome: Outcome) -> Settled {
        self.settle_as(leased, Arc::clone(&leased.envelope), outcome)
            .await
    }

    pub(crate) async fn settle_as(
        &self,
        leased: &Leased,
        envelope: Arc<Envelope>,
        outcome: Outcome,
    ) -> Settled {
        let settlement = Settlement {
            envelope,
            ..leased.clone().settle(outcome)
        };
        let settled = all_of(self.broker.settle(&[settlement]).await).unwrap();
        assert_eq!(settled.len(), 1, "one result per outcome");
        settled[0]
    }

    /// Settles with one more failure that counts.
    pub(crate) async fn fail(&self, leased: &Leased, outcome: Outcome) -> Settled {
        self.settle_as(leased, failed(&leased.envelope), outcome)
            .await
    }

    /// Trims the only queue.
    pub(crate) async fn trim(&self, keep: Keep, limit: usize) -> Trimmed {
        let mut trimmed = all_of(self.broker.trim(&[QUEUE.into()], keep, limit).await).unwrap();
        assert_eq!(trimmed.len(), 1, "one result per queue");
        trimmed.remove(0)
    }

    /// Puts one task into each state, with the state as its id. Returns the lease of the active one.
    pub(crate) async fn fill(&self) -> Leased {
        self.enqueue([
            retained("completed", secs(10_000)),
            task("archived"),
            task("retry"),
            task("active"),
            task("pending"),
        ])
        .await;
        self.enqueue_after(task("scheduled"), secs(10_000)).await;
        let mut leased = self.lease(4).await;
        self.settle(&leased[0], complete()).await;
        self.fail(&leased[1], Outcome::Archive).await;
        let delay = secs(10_000);
        self.fail(&leased[2], Outcome::Retry { delay }).await;
        leased.pop().expect("four tasks")
    }

    pub(crate) async fn stats(&self) -> QueueStats {
        self.broker.stats(&[QUEUE.into()]).await.unwrap().remove(0)
    }

    /// Checks the number of tasks in each state. States that are not listed have none.
    pub(crate) async fn assert_counts(&self, expected: &[(TaskState, u64)]) {
        let expected = expected.iter().copied().collect();
        assert_eq!(self.stats().await.counts, expected);
    }

    pub(crate) async fn info(&self, id: &str) -> Option<TaskInfo> {
        self.broker.tasks(&[task_ref(id)]).await.unwrap().remove(0)
    }

    pub(crate) async fn state(&self, id: &str) -> Option<TaskState> {
        self.info(id).await.map(|info| info.state)
    }

    /// The ids in one state, in the broker's order.
    pub(crate) async fn list(&self, state: TaskState) -> Vec<String> {
        let page = Page::first(10_000);
        let page = self.broker.list(&QUEUE.into(), state, page).await.unwrap();
        page.tasks
            .iter()
            .map(|task| task.envelope.id.to_string())
            .collect()
    }
}

/// The states of a task that does not wait in a group or for other tasks.
pub(crate) const STATES: [TaskState; 6] = [
    TaskState::Scheduled,
    TaskState::Pending,
    TaskState::Active,
    TaskState::Retry,
    TaskState::Completed,
    TaskState::Archived,
];

pub(crate) fn now(envelope: Envelope) -> NewTask {
    NewTask::new(envelope, When::Now)
}

pub(crate) fn id(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

pub(crate) fn task_ref(task: &str) -> TaskRef {
    TaskRef::new(QUEUE, id(task))
}

/// A task with a payload of MessagePack.
pub(crate) fn with_payload(name: &str, payload: &serde_json::Value) -> Envelope {
    let mut task = task(name);
    task.payload = MessagePack::encode(payload).unwrap().into();
    task
}

pub(crate) fn task(name: &str) -> Envelope {
    let mut task = Envelope::new(
        id(name),
        "event",
        CodecName::of::<MessagePack>(),
        Bytes::from_static(b"payload"),
    );
    task.queue = QUEUE.into();
    with(task, |options| options.queue = QUEUE.into())
}

pub(crate) fn enqueued_at(name: &str, time: Timestamp) -> Envelope {
    let mut task = task(name);
    task.enqueued_at = time;
    task
}

pub(crate) fn task_in(queue: &str, name: &str) -> Envelope {
    let mut task = task(name);
    task.queue = queue.into();
    with(task, |options| options.queue = queue.into())
}

pub(crate) fn tasks<const N: usize>(names: [&str; N]) -> [Envelope; N] {
    names.map(task)
}

/// Changes a task's options.
pub(crate) fn with(mut task: Envelope, change: impl FnOnce(&mut TaskOptions)) -> Envelope {
    change(Arc::make_mut(&mut task.options));
    task
}

pub(crate) fn retained(name: &str, retention: Duration) -> Envelope {
    with(task(name), |options| options.retention = retention)
}

pub(crate) fn prioritised(name: &str, priority: u8) -> Envelope {
    with(task(name), |options| options.priority = priority)
}

pub(crate) fn unique(name: &str, until: UniqueUntil, ttl: Duration) -> Envelope {
    let mut task = task(name);
    task.unique = Some(Box::new(UniqueLock::new(UniqueKey::new("key"), until, ttl)));
    task
}

pub(crate) fn failure(attempt: u32, message: &str) -> Failure {
    let at = Timestamp::from_millis(1_000);
    let kind = FailureKind::Error;
    let mut failure = Failure::new(attempt, at, kind, message);
    failure.worker = Some("tester".into());
    failure
}

pub(crate) fn failed(task: &Arc<Envelope>) -> Arc<Envelope> {
    let mut task = Envelope::clone(task);
    task.attempts += 1;
    task.push_failure(failure(task.attempts, "no luck"));
    Arc::new(task)
}

pub(crate) fn ids(leased: &[Leased]) -> Vec<&str> {
    leased
        .iter()
        .map(|leased| leased.envelope.id.as_str())
        .collect()
}

pub(crate) fn complete() -> Outcome {
    Outcome::Complete { result: None }
}

pub(crate) fn other_token(leased: &Leased) -> Leased {
    let mut other = leased.clone();
    other.token = LeaseToken(leased.token.0 ^ 1 << 40);
    other
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
