//! Calls whose response is lost: they are sent again, and take effect once.

use std::{
    future::{Future, ready},
    sync::Arc,
    time::Duration,
};

use asynqueue_core::{
    broker::{
        BrokerError, Change, Conflict, DocumentSwap, Each, Edit, Edited, Expect, LeaseRequest,
        Leased, NewTask, Outcome, Put, Settled, Settlement, Signal, Space, Store, When, all_of,
        kit::promised,
    },
    codec::{CodecName, MessagePack},
    task::{Envelope, Name, TaskId, TaskRef, TaskState},
};
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use asynqueue_test_servers::{Fault, Postgres, Proxy, eventually};
use bytes::Bytes;
use futures_util::StreamExt;

/// How long the client of [a late request](Fault::Late) waits.
const LIMIT: Duration = Duration::from_millis(300);

/// How long a test waits for what must happen.
const LONG: Duration = Duration::from_secs(60);

/// A store, and a client whose connection can be broken.
struct Behind {
    _server: Arc<Postgres>,
    proxy: Proxy,
    /// Behind the proxy, with one connection.
    broker: PostgresBroker,
    direct: PostgresBroker,
    /// Without the proxy.
    url: String,
}

impl Behind {
    async fn start() -> Self {
        Self::start_with(|options| options).await
    }

    async fn start_with(set: impl Fn(PostgresOptions) -> PostgresOptions) -> Self {
        let server = Postgres::shared().await;
        let proxy = Proxy::start(server.port()).await;
        let url = server.new_schema();
        let through = url.replace(&server.port().to_string(), &proxy.port().to_string());
        let connect = async |url: &str| {
            let options = PostgresOptions::new(url).expect("a URL").pool_size(1);
            let broker = PostgresBroker::connect(set(options)).await;
            broker.expect("a connection")
        };
        Self {
            direct: connect(&url).await,
            broker: connect(&through).await,
            proxy,
            url,
            _server: server,
        }
    }

    /// Loses the response to a call.
    async fn losing<T>(&self, call: impl Future<Output = T>) -> T {
        self.broker.queues().await.expect("a response");
        let before = self.proxy.cuts();
        self.proxy.set(Fault::CutReplies);
        let heal = async {
            eventually("the response is lost", async || self.proxy.cuts() > before).await;
            self.proxy.set(Fault::None);
        };
        tokio::join!(call, heal).0
    }

    /// Loses the response to a call, and waits until another broker hears of its effect.
    async fn losing_heard<T>(
        &self,
        call: impl Future<Output = T>,
        is_heard: impl Fn(&Signal) -> bool,
    ) -> T {
        let signals = self.direct.signals(&["queue".into()]).await;
        let signals = signals.expect("signals");
        let result = self.losing(call).await;
        let mut heard = std::pin::pin!(signals.filter(|signal| ready(is_heard(signal))));
        let heard = tokio::time::timeout(LONG, heard.next()).await;
        heard.expect("announced").expect("open");
        result
    }
}

fn task(number: usize) -> NewTask {
    let id = TaskId::new(format!("task-{number}")).expect("an id");
    let codec = CodecName::of::<MessagePack>();
    let mut task = Envelope::new(id, "event", codec, Bytes::from_static(b"payload"));
    task.queue = "queue".into();
    NewTask::new(task, When::Now)
}

async fn enqueue(broker: &PostgresBroker, count: usize) {
    let accepted = broker.enqueue((0..count).map(task).collect()).await;
    for one in accepted.expect("sent") {
        one.expect("accepted");
    }
}

async fn lease(broker: &PostgresBroker) -> Vec<Leased> {
    try_lease(broker).await.expect("leased")
}

async fn try_lease(broker: &PostgresBroker) -> Result<Vec<Leased>, BrokerError> {
    let lasts = Duration::from_secs(30);
    let request = LeaseRequest::new(vec![("queue".into(), 10)], 10, lasts, "worker".into());
    all_of(broker.lease(&request).await).map(|queues| queues.concat())
}

fn complete(leased: Leased) -> Settlement {
    leased.settle(Outcome::Complete { result: None })
}

async fn pending(broker: &PostgresBroker) -> u64 {
    let stats = broker.stats(&["queue".into()]).await.expect("a response");
    stats[0]
        .counts
        .get(&TaskState::Pending)
        .copied()
        .unwrap_or_default()
}

#[tokio::test]
async fn tasks_are_accepted_once_though_the_response_was_lost() {
    let behind = Behind::start().await;
    let tasks = (0..3).map(task).collect();
    let accepted = behind.losing(behind.broker.enqueue(tasks)).await;
    for one in accepted.expect("sent") {
        one.expect("accepted");
    }
    assert_eq!(pending(&behind.direct).await, 3);
}

#[tokio::test]
async fn refused_tasks_of_a_batch_are_known_though_the_response_was_lost() {
    let behind = Behind::start().await;
    enqueue(&behind.direct, 2).await;
    let tasks = (1..4).map(task).collect();
    let accepted = behind.losing(behind.broker.enqueue(tasks)).await;
    let [first, second, third] = &accepted.expect("sent")[..] else {
        panic!("three tasks were sent");
    };
    assert!(matches!(first, Err(Conflict::Id { .. })), "{first:?}");
    assert!(second.is_ok() && third.is_ok(), "{second:?} {third:?}");
    assert_eq!(pending(&behind.direct).await, 4);
}

#[tokio::test]
async fn what_is_pending_or_due_is_announced_though_the_response_was_lost() {
    let behind = Behind::start().await;
    let (hour, is_due) = (Duration::from_secs(3_600), |signal: &Signal| {
        matches!(signal, Signal::Due(..))
    });
    let is_pending = |signal: &Signal| matches!(signal, Signal::Pending(_));
    let new = behind.broker.enqueue(vec![task(0), task(1)]);
    behind.losing_heard(new, is_pending).await.expect("sent");
    let mut leased = lease(&behind.direct).await;
    let released = [leased.remove(0).settle(Outcome::Release)];
    let settled = behind.losing_heard(behind.broker.settle(&released), is_pending);
    all_of(settled.await).expect("settled");
    let retried = [leased.remove(0).settle(Outcome::Retry { delay: hour })];
    let settled = behind.losing_heard(behind.broker.settle(&retried), is_due);
    all_of(settled.await).expect("settled");
    let later = NewTask::new(task(2).envelope, When::After(hour / 2));
    let later = behind.broker.enqueue(vec![later]);
    behind.losing_heard(later, is_due).await.expect("sent");
}

#[tokio::test]
async fn tasks_are_leased_once_and_returned_though_the_response_was_lost() {
    let behind = Behind::start().await;
    enqueue(&behind.direct, 3).await;
    let leased = behind.losing(lease(&behind.broker)).await;
    assert_eq!(leased.len(), 3);
}

#[tokio::test]
async fn tasks_of_a_lease_that_failed_are_returned_by_the_next_one() {
    let behind = Behind::start_with(|options| {
        options
            .response_timeout(Duration::from_millis(200))
            .retry_for(Duration::ZERO)
    })
    .await;
    enqueue(&behind.direct, 3).await;
    behind.broker.queues().await.expect("a response");
    behind.proxy.set(Fault::SwallowReplies);
    try_lease(&behind.broker).await.expect_err("no response");
    behind.proxy.set(Fault::None);
    let leased = lease(&behind.broker).await;
    assert_eq!(leased.len(), 3);
    let settlements: Vec<_> = leased.into_iter().map(complete).collect();
    let settled = all_of(behind.broker.settle(&settlements).await).expect("settled");
    assert_eq!(settled, [Settled::Recorded; 3]);
}

#[tokio::test]
async fn an_outcome_is_recorded_once_though_the_response_was_lost() {
    let behind = Behind::start().await;
    enqueue(&behind.direct, 2).await;
    let leased = lease(&behind.direct).await;
    let settlements: Vec<_> = leased.into_iter().map(complete).collect();
    let settled = behind.losing(behind.broker.settle(&settlements)).await;
    let settled = all_of(settled).expect("settled");
    assert_eq!(settled, [Settled::Recorded, Settled::Recorded]);
}

#[tokio::test]
async fn an_outcome_of_a_lost_lease_stays_refused_though_the_response_was_lost() {
    let behind = Behind::start().await;
    enqueue(&behind.direct, 2).await;
    let leased = lease(&behind.direct).await;
    let settlements: Vec<_> = leased.into_iter().map(complete).collect();
    let first = behind.direct.settle(&settlements[..1]).await;
    all_of(first).expect("settled");
    let settled = behind.losing(behind.broker.settle(&settlements)).await;
    let settled = all_of(settled).expect("settled");
    assert_eq!(settled, [Settled::Stale, Settled::Recorded]);
}

#[tokio::test]
async fn an_edit_is_made_once_though_the_response_was_lost() {
    let behind = Behind::start().await;
    enqueue(&behind.direct, 1).await;
    let task = TaskRef::new("queue", TaskId::new("task-0").expect("an id"));
    let found = behind.direct.tasks(&[task]).await.expect("a response");
    let edit = Edit {
        seen: found[0].clone().expect("a task"),
        change: Change::Delete,
    };
    let edited = behind.losing(behind.broker.edit(&[edit])).await;
    assert_eq!(edited.expect("edited"), [Edited::Done]);
}

#[tokio::test]
async fn documents_are_changed_once_though_the_response_was_lost() {
    let behind = Behind::start().await;
    let name = Name::from("server");
    let create = DocumentSwap {
        space: Space::Servers,
        name: name.clone(),
        expect: Expect::Absent,
        put: Put::Set(Bytes::from_static(b"one"), None),
    };
    let swap = behind.broker.swap(vec![vec![create]]);
    let swapped = behind.losing(swap).await.expect("a response");
    assert!(swapped[0].is_done);
}

/// The store adds the failure, with another time whenever the outcome is sent.
#[tokio::test]
async fn the_outcome_of_a_cancelled_task_that_failed_is_known_when_it_is_sent_again() {
    let behind = Behind::start_with(|options| {
        let options = options.response_timeout(Duration::from_secs(3));
        options.retry_for(Duration::ZERO)
    })
    .await;
    enqueue(&behind.direct, 2).await;
    let leased = lease(&behind.direct).await;
    let tasks = [leased[0].envelope.task_ref()];
    let retry = Outcome::Retry {
        delay: Duration::ZERO,
    };
    let settlements: Vec<_> = { leased.into_iter() }
        .map(|leased| leased.settle(retry.clone()))
        .collect();
    let cancelled =
        asynqueue_core::broker::Control::cancel(&behind.direct, &tasks, "no longer needed");
    cancelled.await.expect("a response");
    // The other outcome is recorded first. That of the cancelled task waits.
    let mut program = Postgres::connect(&behind.url).await;
    let open = program.transaction().await.expect("begun");
    let lock = "select from lease where turn = (select turn from running) for update";
    open.batch_execute(lock).await.expect("locked");
    let settling = all_each(&behind.broker, &settlements);
    let losing = async {
        waiting_for_lock(&behind.url).await;
        behind.proxy.set(Fault::SwallowReplies);
        open.rollback().await.expect("free");
    };
    let (first, ()) = tokio::join!(settling, losing);
    behind.proxy.set(Fault::None);
    let (failed, recorded): (Vec<_>, Vec<_>) =
        { settlements.into_iter().zip(first) }.partition(|(_, result)| result.is_err());
    assert!(matches!(recorded[..], [(_, Ok(Settled::Recorded))]));
    let [(failed, _)] = &failed[..] else {
        panic!("no response to the outcome of one task: {failed:?}");
    };
    let again = all_each(&behind.broker, std::slice::from_ref(failed)).await;
    assert!(matches!(again[..], [Ok(Settled::Cancelled)]), "{again:?}");
}

#[tokio::test]
async fn an_outcome_that_was_not_committed_is_known_when_it_is_sent_again() {
    let behind = Behind::start_with(|options| {
        let options = options.response_timeout(Duration::from_millis(200));
        options.retry_for(Duration::ZERO)
    })
    .await;
    // Of all tests in this process.
    let mut only = task(0);
    only.envelope.id = TaskId::new("promised").expect("an id");
    let accepted = behind.direct.enqueue(vec![only]).await;
    assert_eq!(accepted.expect("sent"), [Ok(())]);
    let leased = lease(&behind.direct).await.remove(0);
    // As if its handler had completed it in a transaction.
    promised::add(leased.lease());
    let settlements = [complete(leased)];
    behind.broker.queues().await.expect("a response");
    behind.proxy.set(Fault::SwallowReplies);
    let first = behind.broker.settle(&settlements).await;
    first.expect_err("no response");
    behind.proxy.set(Fault::None);
    let again = all_of(behind.broker.settle(&settlements).await);
    assert_eq!(again.expect("settled"), [Settled::NotCommitted]);
}

/// A server sends what failed unchanged, unless each outcome has its own error: then by queue.
#[tokio::test]
async fn outcomes_of_several_queues_without_a_response_fail_together() {
    let behind = Behind::start_with(|options| {
        let options = options.response_timeout(Duration::from_millis(200));
        options.retry_for(Duration::ZERO)
    })
    .await;
    let mut tasks: Vec<_> = (0..2).map(task).collect();
    tasks[1].envelope.queue = "other".into();
    let accepted = behind.direct.enqueue(tasks).await.expect("sent");
    assert_eq!(accepted, [Ok(()), Ok(())]);
    let queues = vec![("queue".into(), 1), ("other".into(), 1)];
    let request = LeaseRequest::new(queues, 2, Duration::from_secs(30), "worker".into());
    let leased = all_of(behind.direct.lease(&request).await).expect("leased");
    let settlements: Vec<_> = leased.concat().into_iter().map(complete).collect();
    behind.broker.queues().await.expect("a response");
    behind.proxy.set(Fault::SwallowReplies);
    let first = behind.broker.settle(&settlements).await;
    first.expect_err("no response");
    behind.proxy.set(Fault::None);
    let again = all_of(behind.broker.settle(&settlements).await);
    assert_eq!(again.expect("settled"), [Settled::Recorded; 2]);
}

async fn all_each(broker: &PostgresBroker, settlements: &[Settlement]) -> Each<Settled> {
    Store::settle(broker, settlements).await.expect("results")
}

/// Waits until a call waits for a row.
async fn waiting_for_lock(url: &str) {
    let look = Postgres::connect(url).await;
    let sql = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' \
         and query like '%' || current_schema() || '%'";
    eventually("a call waits", async || {
        let row = look.query_one(sql, &[]).await.expect("a row");
        row.get::<_, i64>(0) > 0
    })
    .await;
}

/// Each request is delivered after its client has given it up and made it again.
#[tokio::test]
async fn a_request_that_arrives_late_has_no_effect() {
    let behind = Behind::start_with(|options| options.response_timeout(LIMIT)).await;
    enqueue(&behind.direct, 3).await;
    behind.broker.queues().await.expect("a response");
    behind.proxy.set(Fault::Late(LIMIT * 3));
    let leased = lease(&behind.broker).await;
    assert_eq!(leased.len(), 3);
    let settlements: Vec<_> = leased.into_iter().map(complete).collect();
    behind.proxy.set(Fault::Late(LIMIT * 3));
    let settled = all_of(behind.broker.settle(&settlements).await).expect("settled");
    assert_eq!(settled, [Settled::Recorded; 3]);
    behind.proxy.set(Fault::Late(LIMIT * 3));
    enqueue(&behind.broker, 3).await;
    // The tasks end before the late request with them arrives.
    let again: Vec<_> = lease(&behind.direct)
        .await
        .into_iter()
        .map(complete)
        .collect();
    all_of(behind.direct.settle(&again).await).expect("settled");
    let arrived = async || behind.proxy.late() >= 3;
    eventually("all late requests have arrived", arrived).await;
    assert_eq!(pending(&behind.direct).await, 0);
    assert!(lease(&behind.direct).await.is_empty());
}
