//! A producer: records each task before it is enqueued, and the response.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::Conflict,
    producer::{Enqueue, EnqueueError, Producer, TaskHandle},
    task::{Aggregate, UniqueUntil},
};
use tokio::task::JoinSet;

use super::{Child, end_requested};
use crate::chaos::{
    dice::Dice,
    journal::{Journal, now},
    load::{BACKOFF, Kind, Member, News, QUEUES, SUBSCRIBERS, WINDOW_MILLIS, Work},
};

/// How many tasks it enqueues concurrently.
const LOOPS: u64 = 6;

/// How long a caller waits for a result.
const PATIENCE: Duration = Duration::from_secs(10);

const LIMITS: Aggregate = Aggregate::DEFAULT
    .grace(Duration::from_millis(200))
    .max_delay(Duration::from_millis(800))
    .max_size(20);

/// State that the loops of an enqueueing child share.
#[derive(Clone)]
pub(crate) struct Desk {
    name: Arc<str>,
    pub(crate) producer: Producer,
    pub(crate) journal: Journal,
    next: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
}

impl Desk {
    pub(crate) fn new(child: &Child) -> Self {
        Self {
            name: child.name.as_str().into(),
            producer: Producer::new(child.broker.clone()),
            journal: child.journal.clone(),
            next: Arc::default(),
            ends: Arc::default(),
        }
    }

    pub(crate) fn id(&self, kind: Kind) -> String {
        let n = self.next.fetch_add(1, SeqCst);
        format!("{}-{}-{n}", kind.name(), self.name)
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.ends.load(SeqCst)
    }

    /// A task with an id and a queue, to be changed and sent.
    pub(crate) fn work(&self, id: &str, queue: &'static str) -> Enqueue<'_, Work> {
        let task = Work {
            id: id.to_owned(),
            version: 0,
        };
        self.producer
            .enqueue(task)
            .id(id)
            .queue(queue)
            .backoff(BACKOFF)
    }

    /// Enqueues a task that must not run before `delay`. Returns its handle if it is known to be accepted.
    pub(crate) async fn send<T: asynqueue_core::task::Task>(
        &self,
        id: &str,
        (queue, key): (&str, &str),
        delay: Duration,
        task: Enqueue<'_, T>,
    ) -> Option<TaskHandle<T>> {
        let due = if delay.is_zero() {
            0
        } else {
            now() + delay.as_micros() as u64
        };
        self.journal
            .note(format!("try {id} {queue} {due} {key}"))
            .await;
        let task = if delay.is_zero() {
            task
        } else {
            task.delay(delay)
        };
        let answer = task.await;
        self.journal
            .note(format!("{} {id}", word_for(&answer)))
            .await;
        answer.ok()
    }

    async fn publish(&self, id: &str) {
        self.journal.note(format!("try {id} @news 0 -")).await;
        let event = News { id: id.to_owned() };
        let answer = self.producer.publish(event).id(id).await;
        let word = match &answer {
            Ok(published) if published.subscribers == SUBSCRIBERS.len() => "ack".to_owned(),
            Ok(published) => format!("short {}", published.subscribers),
            Err(_) => "unsure".to_owned(),
        };
        self.journal.note(format!("{word} {id}")).await;
    }

    /// Runs the loops until the parent requests this process to end, then waits for them.
    pub(crate) async fn until_end_requested(self, mut loops: JoinSet<()>) {
        end_requested().await;
        self.ends.store(true, SeqCst);
        while loops.join_next().await.is_some() {}
        self.journal.note("closed").await;
    }
}

fn word_for<T>(answer: &Result<T, EnqueueError>) -> &'static str {
    match answer {
        Ok(_) => "ack",
        Err(EnqueueError::Conflict(Conflict::Unique { .. })) => "refused",
        Err(EnqueueError::Conflict(Conflict::Id { .. })) => "known",
        Err(EnqueueError::Broker(_)) => "unsure",
        Err(_) => "invalid",
    }
}

/// Enqueues until it is requested to end.
pub(crate) async fn run(child: Child) {
    let desk = Desk::new(&child);
    // An event without subscribers is rightly dropped.
    loop {
        let subscribers = child.broker.subscribers(&"news".into()).await;
        if subscribers.is_ok_and(|known| known.len() == SUBSCRIBERS.len()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut loops = JoinSet::new();
    for n in 0..LOOPS {
        let mut dice = child.dice.clone();
        for _ in 0..n {
            dice = Dice::new(dice.below(u64::MAX), "loop");
        }
        loops.spawn(enqueue_all(desk.clone(), dice));
    }
    desk.until_end_requested(loops).await;
}

async fn enqueue_all(desk: Desk, mut dice: Dice) {
    let mut callers = JoinSet::new();
    while desk.is_open() {
        let kind = *dice.pick(&Kind::PRODUCED).expect("kinds");
        enqueue(&desk, kind, &mut dice, &mut callers).await;
        tokio::time::sleep(dice.millis(10, 80)).await;
    }
    while callers.join_next().await.is_some() {}
}

async fn enqueue(desk: &Desk, kind: Kind, dice: &mut Dice, callers: &mut JoinSet<()>) {
    let id = desk.id(kind);
    let queue = *dice.pick(&QUEUES).expect("queues");
    let at_once = Duration::ZERO;
    let task = || desk.work(&id, queue);
    match kind {
        Kind::News => desk.publish(&id).await,
        Kind::Member => {
            let group = format!("group_{}", dice.below(6));
            let member = Member { id: id.clone() };
            let task = desk.producer.enqueue(member).id(&*id).queue(queue);
            let task = task.backoff(BACKOFF).group(group).aggregate(LIMITS);
            desk.send(&id, (queue, "-"), at_once, task).await;
        }
        Kind::Unique | Kind::Window => {
            // The lock belongs to its queue.
            let n = dice.below(24);
            let (queue, key) = (
                QUEUES[n as usize % QUEUES.len()],
                format!("{}_{n}", kind.name()),
            );
            let (until, ttl) = match kind {
                Kind::Unique => (UniqueUntil::Success, Duration::from_secs(24 * 3_600)),
                _ => (UniqueUntil::Window, Duration::from_millis(WINDOW_MILLIS)),
            };
            let task = desk
                .work(&id, queue)
                .unique_until(until, ttl)
                .unique_key(&*key);
            desk.send(&id, (queue, &key), at_once, task).await;
        }
        Kind::Awaited => {
            let task = task().retention(Duration::from_secs(60));
            if let Some(handle) = desk.send(&id, (queue, "-"), at_once, task).await {
                callers.spawn(wait_for(desk.journal.clone(), handle));
            }
        }
        Kind::Delayed => {
            let delay = dice.millis(100, 2_500);
            desk.send(&id, (queue, "-"), delay, task()).await;
        }
        _ => {
            let task = match kind {
                Kind::Urgent => task().priority(dice.below(10) as u8),
                Kind::Once => task().max_retry(0),
                _ => task(),
            };
            desk.send(&id, (queue, "-"), at_once, task).await;
        }
    }
}

/// Waits for a result as a caller does, and records it.
async fn wait_for(journal: Journal, task: TaskHandle<Work>) {
    let word = match tokio::time::timeout(PATIENCE, task.result()).await {
        Ok(Ok(result)) => format!("result {} {result}", task.id()),
        Ok(Err(error)) => format!("noresult {} {}", task.id(), short(&error)),
        Err(_) => format!("noresult {} timeout", task.id()),
    };
    journal.note(word).await;
}

fn short(error: &asynqueue_core::producer::ResultError) -> &'static str {
    match error {
        asynqueue_core::producer::ResultError::Failed { .. } => "failed",
        asynqueue_core::producer::ResultError::Gone { .. } => "gone",
        _ => "error",
    }
}
