//! A broker whose clock the tests move, with reports of servers as they need them.

use std::time::Duration;

use asynqueue_core::{
    broker::{
        Broker, Control, Fleet, LeaseRequest, Leased, NewTask, RunningTask, ServerInfo, When,
    },
    codec::{CodecName, Json},
    inspector::{Cause, Inspector, QueueWait, TaskWait},
    memory::MemoryBroker,
    task::{Envelope, TaskId, TaskRef, Timestamp},
    testing::TestClock,
};

pub(crate) const QUEUE: &str = "video";
pub(crate) const EVENT: &str = "video:encode";

pub(crate) struct Stage {
    pub(crate) clock: TestClock,
    pub(crate) broker: MemoryBroker,
    pub(crate) inspector: Inspector,
}

pub(crate) fn task_ref(id: &str) -> TaskRef {
    TaskRef::new(QUEUE, TaskId::new(id).unwrap())
}

pub(crate) fn envelope(id: &str) -> Envelope {
    let codec = CodecName::of::<Json>();
    let mut envelope = Envelope::new(TaskId::new(id).unwrap(), EVENT, codec, "null".into());
    envelope.queue = QUEUE.into();
    envelope
}

impl Stage {
    pub(crate) fn new() -> Self {
        let clock = TestClock::default();
        let broker = MemoryBroker::with_clock(clock.clone());
        let inspector = Inspector::new(broker.clone());
        Self {
            clock,
            broker,
            inspector,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.inspector.now()
    }

    pub(crate) async fn enqueue(&self, ids: &[&str]) {
        for id in ids {
            self.add(envelope(id), When::Now).await;
        }
    }

    pub(crate) async fn add(&self, mut task: Envelope, when: When) {
        task.enqueued_at = self.now();
        let accepted = Broker::enqueue(&self.broker, vec![NewTask::new(task, when)]).await;
        accepted.unwrap().remove(0).unwrap();
    }

    /// Leases up to `max` tasks for a server.
    pub(crate) async fn lease(&self, server: &str, max: usize) -> Vec<Leased> {
        let queues = vec![(QUEUE.into(), max)];
        let request = LeaseRequest::new(queues, max, secs(30), server.into());
        let leased = Broker::lease(&self.broker, &request).await;
        leased.unwrap().remove(0).unwrap()
    }

    /// A server that takes from the queue, handles the event and has reported just now.
    pub(crate) fn server(&self, name: &str) -> ServerInfo {
        let mut server = ServerInfo::new(name, self.now());
        server.queues = vec![(QUEUE.into(), 1)];
        server.events = vec![EVENT.into()];
        server.concurrency = 4;
        server
    }

    /// A task that a server runs since `ago`.
    pub(crate) fn running(&self, id: &str, ago: Duration) -> RunningTask {
        let (task, event) = (task_ref(id), EVENT.into());
        RunningTask::new(task, event, 1, self.now() - ago, self.now() + ago)
    }

    pub(crate) async fn report(&self, server: ServerInfo) {
        let hour = Duration::from_secs(3600);
        self.broker.beat(server, hour).await.unwrap();
    }

    pub(crate) async fn why(&self) -> QueueWait {
        self.inspector.why_queue_waits(&QUEUE.into()).await.unwrap()
    }

    /// The causes of the queue in words.
    pub(crate) async fn causes(&self) -> Vec<String> {
        let causes = self.why().await.causes;
        self.words(&causes)
    }

    pub(crate) async fn why_task(&self, id: &str) -> TaskWait {
        let why = self.inspector.why_task_waits(&task_ref(id)).await;
        why.unwrap().unwrap()
    }

    /// The causes of a task in words.
    pub(crate) async fn causes_of(&self, id: &str) -> Vec<String> {
        let causes = self.why_task(id).await.causes;
        self.words(&causes)
    }

    fn words(&self, causes: &[Cause]) -> Vec<String> {
        let now = self.now();
        causes.iter().map(|cause| cause.describe(now)).collect()
    }

    pub(crate) async fn set_paused(&self) {
        let queues = [QUEUE.into()];
        Control::set_paused(&self.broker, &queues, true)
            .await
            .unwrap();
    }
}

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// The kinds of causes.
pub(crate) fn kinds(causes: &[Cause]) -> Vec<&'static str> {
    causes.iter().map(Cause::kind).collect()
}
