//! Calls whose response is lost: they are sent again, and take effect once.

use std::{future::Future, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Broker, Inspect, LeaseRequest, Leased, NewTask, Outcome, Settled, When, all_of},
    codec::{CodecName, MessagePack},
    task::{Envelope, TaskId},
};
use asynqueue_postgres::{PostgresBroker, PostgresOptions};
use asynqueue_test_servers::{Fault, Postgres, Proxy, eventually};
use bytes::Bytes;

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
        let server = Postgres::shared().await;
        let proxy = Proxy::start(server.port()).await;
        let url = server.new_schema();
        let through = url.replace(&server.port().to_string(), &proxy.port().to_string());
        let connect = async |url: &str| {
            let options = PostgresOptions::new(url).expect("a URL").pool_size(1);
            let broker = PostgresBroker::connect(options).await;
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

async fn enqueue(broker: &PostgresBroker, count: usize) {
    let task = |number: usize| {
        let id = TaskId::new(format!("task-{number}")).expect("an id");
        let codec = CodecName::of::<MessagePack>();
        let mut task = Envelope::new(id, "event", codec, Bytes::from_static(b"payload"));
        task.queue = "queue".into();
        NewTask::new(task, When::Now)
    };
    let accepted = broker.enqueue((0..count).map(task).collect()).await;
    for one in accepted.expect("sent") {
        one.expect("accepted");
    }
}

async fn lease(broker: &PostgresBroker) -> Vec<Leased> {
    let lasts = Duration::from_secs(30);
    let request = LeaseRequest::new(vec![("queue".into(), 10)], 10, lasts, "worker".into());
    all_of(broker.lease(&request).await)
        .expect("leased")
        .concat()
}

#[tokio::test]
async fn tasks_are_leased_once_and_returned_though_the_response_was_lost() {
    let behind = Behind::start().await;
    enqueue(&behind.direct, 3).await;
    let leased = behind.losing(lease(&behind.broker)).await;
    assert_eq!(leased.len(), 3);
}

#[tokio::test]
async fn an_outcome_is_recorded_once_though_the_response_was_lost() {
    let behind = Behind::start().await;
    enqueue(&behind.direct, 2).await;
    let complete = |leased: Leased| leased.settle(Outcome::Complete { result: None });
    let leased = lease(&behind.direct).await;
    let settlements: Vec<_> = leased.into_iter().map(complete).collect();
    let settled = behind.losing(behind.broker.settle(&settlements)).await;
    let settled = all_of(settled).expect("settled");
    assert_eq!(settled, [Settled::Recorded, Settled::Recorded]);
}
