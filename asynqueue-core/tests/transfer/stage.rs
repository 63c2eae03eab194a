//! Two stores with a clock, a source with something of everything, and what a store contains.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::*,
    codec::{CodecName, MessagePack},
    memory::MemoryBroker,
    task::{
        Aggregate, Envelope, Failure, FailureKind, Name, TaskId, TaskRef, TaskState, Timestamp,
        UniqueKey, UniqueLock, UniqueUntil,
    },
    testing::TestClock,
    transfer::Transfer,
};
use bytes::Bytes;

use crate::mortal::{Life, Mortal};

pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) struct Stage {
    pub(crate) clock: TestClock,
    pub(crate) source: MemoryBroker,
    pub(crate) target: MemoryBroker,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let clock = TestClock::default();
        Self {
            source: MemoryBroker::with_clock(clock.clone()),
            target: MemoryBroker::with_clock(clock.clone()),
            clock,
        }
    }

    /// A move by a process with this life.
    pub(crate) fn mortal_transfer(&self, life: &Arc<Life>) -> Transfer {
        let mortal = |store: &MemoryBroker| -> SharedBroker {
            Arc::new(Mortal {
                store: store.clone(),
                life: Arc::clone(life),
            })
        };
        Transfer::new(mortal(&self.source), mortal(&self.target)).patience(secs(0))
    }

    pub(crate) fn transfer(&self) -> Transfer {
        Transfer::new(self.source.clone(), self.target.clone()).patience(secs(0))
    }

    /// Fills the source with tasks in each state but active, of two queues, and everything beside them.
    pub(crate) async fn fill(&self) {
        self.fill_states().await;
        self.fill_groups().await;
        self.fill_declarations().await;
        let paused = [Name::from("paused")];
        let store = self.source();
        let tasks = ["x", "y"].map(|name| NewTask::new(task("paused", name), When::Now));
        accept(store, tasks.to_vec()).await;
        store.set_paused(&paused, true).await.expect("paused");
        // A queue that has only statistics.
        accept(store, vec![NewTask::new(task("empty", "e"), When::Now)]).await;
        let leased = lease(store, "empty", 1).await.remove(0);
        settle(store, leased.settle(Outcome::Complete { result: None })).await;
        // In one of its hours, all attempts were lost.
        accept(store, vec![NewTask::new(task("empty", "l"), When::Now)]).await;
        let leased = lease(store, "empty", 1).await.remove(0);
        self.clock.advance(secs(3_600));
        let lost = Settlement {
            only_if_expired: true,
            ..leased.settle(Outcome::Retry { delay: secs(0) })
        };
        assert_eq!(settle(store, lost).await, Settled::Recorded);
        let leased = lease(store, "empty", 1).await.remove(0);
        settle(store, leased.settle(Outcome::Drop)).await;
        self.clock.advance(secs(7));
    }

    async fn fill_states(&self) {
        let store = self.source();
        let now = store.now();
        let mut kept = task("q", "completed");
        Arc::make_mut(&mut kept.options).retention = secs(10_000);
        let first = ["archived", "retry"].map(|name| task("q", name));
        let first = std::iter::once(kept).chain(first);
        accept(
            store,
            first.map(|task| NewTask::new(task, When::Now)).collect(),
        )
        .await;
        let mut leased = lease(store, "q", 3).await.into_iter();
        let mut next = || leased.next().expect("three tasks");
        let result = Some(Bytes::from_static(b"output"));
        settle(store, next().settle(Outcome::Complete { result })).await;
        settle(store, failed(next()).settle(Outcome::Archive)).await;
        let delay = secs(500);
        settle(store, failed(next()).settle(Outcome::Retry { delay })).await;
        self.clock.advance(secs(3));
        let mut urgent = task("q", "urgent");
        Arc::make_mut(&mut urgent.options).priority = 5;
        let mut locked = task("q", "locked");
        let lock = UniqueLock::new(UniqueKey::new("key"), UniqueUntil::Success, secs(9_000));
        locked.unique = Some(Box::new(lock));
        locked.headers.insert("own", "header");
        let pending = [task("q", "p1"), urgent, locked, task("q", "p2")];
        accept(
            store,
            pending.map(|task| NewTask::new(task, When::Now)).to_vec(),
        )
        .await;
        let later = |name, delay| NewTask::new(task("q", name), When::At(now + delay));
        accept(store, vec![later("s1", secs(100)), later("s2", secs(200))]).await;
    }

    async fn fill_groups(&self) {
        let store = self.source();
        let member = |name| {
            let mut task = task("q", name);
            let options = Arc::make_mut(&mut task.options);
            options.group = Some("g".into());
            options.aggregate = Some(Aggregate::default().max_delay(secs(600)).grace(secs(10)));
            NewTask::new(task, When::Now)
        };
        accept(store, ["g1", "g2", "g3"].map(member).to_vec()).await;
        self.clock.advance(secs(11));
        let events = [Name::from("event")];
        let due = Store::due_groups(store, &["q".into()], &events, 10).await;
        let mut group = due.expect("groups").groups.remove(0);
        group.members.truncate(2);
        let members = group.members.clone();
        let apart = SetApart {
            group,
            members,
            tries: 2,
            delay: secs(400),
        };
        assert_eq!(Store::set_apart(store, apart).await.expect("apart"), 2);
    }

    async fn fill_declarations(&self) {
        let now = self.source().now();
        let broker: SharedBroker = self.source.clone().into();
        let entry = |name: &str, paused| {
            let mut entry = ScheduleEntry::new(name, "@every 1h", task("q", "template"));
            entry.next = Some(now + secs(3_600));
            entry.paused = paused;
            entry
        };
        let entries = vec![entry("hourly", false), entry("stopped", true)];
        broker.put_schedules(entries).await.expect("entries");
        self.clock.advance(secs(3_600));
        let tick = Fire {
            name: "hourly".into(),
            tick: now + secs(3_600),
            what: Tick::Enqueue(task("q", "tick"), now),
            next: Some(now + secs(7_200)),
        };
        assert_eq!(broker.fire(vec![tick]).await.expect("fired"), [Ok(true)]);
        let pairs = [("order", "billing"), ("order", "mail"), ("user", "mail")];
        let pairs = pairs.map(|(event, name)| (event.into(), name.into()));
        broker.subscribe(pairs.to_vec()).await.expect("subscribed");
        let removed = [("user".into(), "mail".into())];
        broker.unsubscribe(&removed).await.expect("unsubscribed");
    }

    pub(crate) fn source(&self) -> &dyn Store {
        &self.source
    }

    pub(crate) fn target(&self) -> &dyn Store {
        &self.target
    }
}

pub(crate) fn task(queue: &str, name: &str) -> Envelope {
    let id = TaskId::new(name).expect("an id");
    let codec = CodecName::of::<MessagePack>();
    let mut task = Envelope::new(id, "event", codec, name.to_owned().into());
    task.queue = queue.into();
    Arc::make_mut(&mut task.options).queue = queue.into();
    task
}

pub(crate) async fn accept(store: &dyn Store, tasks: Vec<NewTask>) {
    for answer in store.enqueue(tasks).await.expect("accepted") {
        answer.expect("no conflict");
    }
}

pub(crate) async fn lease(store: &dyn Store, queue: &str, max: usize) -> Vec<Leased> {
    let request = LeaseRequest::new(vec![(queue.into(), max)], max, LEASE, "worker".into());
    all_of(store.lease(&request).await)
        .expect("leased")
        .concat()
}

pub(crate) async fn settle(store: &dyn Store, settlement: Settlement) -> Settled {
    all_of(store.settle(&[settlement]).await).expect("settled")[0]
}

pub(crate) fn failed(mut leased: Leased) -> Leased {
    let mut envelope = Envelope::clone(&leased.envelope);
    envelope.attempts += 1;
    let failure = Failure::new(1, leased.now, FailureKind::Error, "no luck");
    envelope.push_failure(failure);
    leased.envelope = Arc::new(envelope);
    leased
}

/// Succeeded, failed, lost, archive, hours, and whether the queue is paused.
type Figures = (u64, u64, u64, ArchiveStats, Vec<HourStats>, bool);

/// A task and its place.
type Placed = (Envelope, Option<TaskPlace>);

/// What a store contains: what a move must neither lose nor change.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Content {
    /// The tasks of each state, in the order of their list.
    pub(crate) tasks: BTreeMap<(Name, TaskState), Vec<Placed>>,
    pub(crate) figures: BTreeMap<Name, Figures>,
    pub(crate) documents: BTreeMap<(Space, Name), (Bytes, Option<Timestamp>)>,
}

/// The spaces of documents that are moved.
const SPACES: [Space; 4] = [
    Space::Schedules,
    Space::ScheduleEvents,
    Space::Subscriptions,
    Space::Removals,
];

impl Content {
    pub(crate) async fn of(store: &dyn Store) -> Self {
        let mut content = Self::default();
        for queue in store.queues().await.expect("queues") {
            for state in TaskState::ALL {
                let page = store.list(&queue, state, Page::first(10_000)).await;
                let tasks = page.expect("a list").tasks.into_iter();
                let tasks: Vec<_> = tasks
                    .map(|task| (Envelope::clone(&task.envelope), task.place()))
                    .collect();
                if !tasks.is_empty() {
                    content.tasks.insert((queue.clone(), state), tasks);
                }
            }
            let queues = std::slice::from_ref(&queue);
            let stats = store.stats(queues).await.expect("figures").remove(0);
            let hours = store.history(queues, Timestamp::default()).await;
            let hours = hours.expect("hours").remove(0);
            let figures = (
                stats.succeeded,
                stats.failed,
                stats.lost,
                stats.archive,
                hours,
                stats.paused,
            );
            content.figures.insert(queue, figures);
        }
        for space in SPACES {
            for (name, document) in store.documents(space).await.expect("documents") {
                let document = (document.bytes, document.due);
                content.documents.insert((space, name), document);
            }
        }
        content
    }

    pub(crate) fn ids(&self) -> Vec<TaskRef> {
        let tasks = self.tasks.values().flatten();
        tasks.map(|(envelope, _)| envelope.task_ref()).collect()
    }
}
