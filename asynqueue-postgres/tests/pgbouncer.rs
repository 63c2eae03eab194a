//! The contract suite of stores through PgBouncer in transaction mode, with a listening connection to the server itself, and what
//! happens without that connection.

mod common;

use std::{
    io,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use asynqueue_conformance::{store::StoreHarness, suite::Harness};
use asynqueue_core::{
    broker::{SharedBroker, Store},
    process::Payload,
    producer::Producer,
    server::{Server, ServerHandle},
    testing::TestClock,
};
use asynqueue_macros::Task;
use asynqueue_postgres::PostgresBroker;
use asynqueue_test_servers::{PgBouncer, Postgres, eventually};
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

/// A server with a pooler, which the tests of this process share.
struct Pooled {
    server: Arc<Postgres>,
    pooler: PgBouncer,
}

impl Pooled {
    async fn shared() -> Arc<Self> {
        static SHARED: tokio::sync::Mutex<Weak<Pooled>> =
            tokio::sync::Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(pooled) = shared.upgrade() {
            return pooled;
        }
        let server = Postgres::shared().await;
        let pooler = PgBouncer::start(&server).await;
        let pooled = Arc::new(Self { server, pooler });
        *shared = Arc::downgrade(&pooled);
        pooled
    }

    /// The URL of an empty schema, without a connection to listen.
    fn deaf_url(&self) -> String {
        let direct = self.server.new_schema();
        let (_, parameters) = direct.split_once('?').expect("a schema");
        format!("{}?{parameters}", self.pooler.url())
    }

    /// The URL of an empty schema.
    fn url(&self) -> String {
        let listen = self.server.url().replace(':', "%3A").replace('/', "%2F");
        format!("{}&listen={}", self.deaf_url(), listen.replace('@', "%40"))
    }
}

/// A schema for each test.
#[derive(Default)]
struct ThroughPgBouncer {
    server: OnceCell<(Arc<Pooled>, String)>,
    clock: TestClock,
}

impl ThroughPgBouncer {
    async fn open(&self) -> PostgresBroker {
        let start = || async {
            let pooled = Pooled::shared().await;
            let url = pooled.url();
            (pooled, url)
        };
        let (_, url) = self.server.get_or_init(start).await;
        let options = common::options(url).clock(self.clock.clone());
        let broker = PostgresBroker::connect(options).await;
        broker.expect("a broker")
    }
}

#[async_trait::async_trait]
impl Harness for ThroughPgBouncer {
    async fn broker(&self) -> SharedBroker {
        self.open().await.into()
    }

    async fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }
}

#[async_trait::async_trait]
impl StoreHarness for ThroughPgBouncer {
    async fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.open().await)
    }
}

asynqueue_conformance::store_suite!(ThroughPgBouncer::default());

#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "double", crate = asynqueue_core, output = u64, retention = "1h")]
struct Double(u64);

async fn server(url: &str, poll_interval: Duration) -> ServerHandle {
    let double = async |task: Payload<Double>| Ok::<_, std::convert::Infallible>(2 * task.0.0);
    let server = Server::builder(common::open(url).await)
        .queue("default", 1)
        .poll_interval(poll_interval)
        .process(double);
    server.start().await.expect("a server")
}

/// Enqueues tasks of another broker one by one, and waits for their results.
async fn double(url: &str, numbers: std::ops::Range<u64>) {
    let producer = Producer::new(common::open(url).await);
    for n in numbers {
        let handle = producer.enqueue(Double(n)).await.expect("enqueued");
        let result = tokio::time::timeout(common::LIMIT, handle.result()).await;
        assert_eq!(result.expect("it runs").expect("completed"), 2 * n);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_never_polls_runs_the_tasks_of_another_process() {
    let pooled = Pooled::shared().await;
    let url = pooled.url();
    let server = server(&url, Duration::from_secs(3_600)).await;
    double(&url, 0..20).await;
    server.shutdown().await.expect("ended in order");
}

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn warnings(&self) -> usize {
        let bytes = self.0.lock().expect("lines");
        let text = String::from_utf8_lossy(&bytes);
        text.matches("notifications do not arrive, and servers find tasks by polling")
            .count()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lines").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// No other test here has a broker without a listening connection.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_connection_to_listen_there_is_one_warning_and_tasks_are_found_by_polling() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN);
    let lines = lines.with_ansi(false).with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(lines.finish()).expect("the only one");

    let pooled = Pooled::shared().await;
    let url = pooled.deaf_url();
    let server = server(&url, Duration::from_millis(50)).await;
    eventually("there is a warning", || async { log.warnings() > 0 }).await;
    let direct = url.replace(&pooled.pooler.url(), &pooled.server.url());
    double(&direct, 0..3).await;
    let checks = checks(&pooled, &url);
    tokio::time::timeout(common::LIMIT, checks)
        .await
        .expect("two more checks");
    assert_eq!(log.warnings(), 1);
    server.shutdown().await.expect("ended in order");
}

/// Completes once the server has started two more checks, so that the first of them has ended. This connection hears what
/// is sent by them.
async fn checks(pooled: &Pooled, url: &str) {
    let schema = common::options(url).schema_name().to_owned();
    let config: tokio_postgres::Config = pooled.server.url().parse().expect("a URL");
    let connecting = config.connect(tokio_postgres::NoTls).await;
    let (client, mut connection) = connecting.expect("a connection");
    let hearing = async {
        let mut checks = 0;
        while checks < 2 {
            let message = std::future::poll_fn(|context| connection.poll_message(context)).await;
            let message = message.expect("it is open").expect("a message");
            if let tokio_postgres::AsyncMessage::Notification(heard) = message {
                checks += usize::from(!heard.payload().contains(' '));
            }
        }
    };
    let listen = format!("listen \"{schema}\"");
    let (listens, ()) = tokio::join!(client.batch_execute(&listen), hearing);
    listens.expect("it listens");
}
