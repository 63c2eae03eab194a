//! Calls whose response is lost: they are sent again, and take effect once.

use std::{future::Future, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        BrokerError, Change, Conflict, DocumentSwap, Edit, Edited, Expect, LeaseRequest, Leased,
        NewTask, Outcome, Put, Settled, Settlement, Space, Store, When, all_of,
    },
    codec::{CodecName, MessagePack},
    task::{Envelope, Name, TaskId, TaskRef, TaskState},
};
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use asynqueue_test_servers::{Fault, Postgres, Proxy, eventually};
use bytes::Bytes;

/// How long the client of [a late request](Fault::Late) waits.
const LIMIT: Duration = Duration::from_millis(300);

/// A store, and a client whose connection can be broken.
struct Behind {
    _server: Arc<Postgres>,
    proxy: Proxy,
    /// Behind the proxy, with one connection.
    broker: PostgresBroker,
    direct: PostgresBroker,
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
            _server: server,
        }
    }

    /// Loses the response to a call.
    async fn losing<T>(&self, call: impl Future<Output = T>) -> T {
        self.broker.queues().await.expect("a response");
        self.proxy.set(Fault::CutReplies);
        let heal = async {
            eventually("the response is lost", async || self.proxy.cuts() > 0).await;
            self.proxy.set(Fault::None);
        };
        tokio::join!(call, heal).0
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
