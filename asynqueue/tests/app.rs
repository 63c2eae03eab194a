//! An app runs a complete program: its parts start, respond, and stop in order.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::Duration,
};

use asynqueue::{
    App, Config, MemoryBroker, Producer,
    app::{AppError, AppHandle},
    broker::Control as _,
    config::FromConfig as _,
    inspector::Inspector,
    prelude::{Deserialize, Payload, Serialize, State, Task, TaskError},
    scheduler::Entry,
    server::ServerError,
};
use asynqueue_test_servers::{RedisServer, eventually};
use tokio::sync::Notify;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", retention = "1h")]
struct Welcome;

async fn welcome(_: Payload<Welcome>) -> Result<(), TaskError> {
    Ok(())
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "slow", retention = "1h")]
struct Slow;

#[derive(Clone, Default)]
struct Gate {
    reached: Arc<Notify>,
    open: Arc<Notify>,
}

async fn slow(_: Payload<Slow>, State(gate): State<Gate>) -> Result<(), TaskError> {
    gate.reached.notify_one();
    gate.open.notified().await;
    Ok(())
}

fn config(toml: &str) -> Config {
    Config::from_toml(&format!("addr = 'memory:'\n{toml}")).expect("valid")
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let response = reqwest::get(format!("http://{address}{path}")).await;
    let response = response.expect("a response");
    (
        response.status().as_u16(),
        response.text().await.expect("text"),
    )
}

/// The addresses of an app's metrics and monitor.
fn addresses(app: &AppHandle) -> (SocketAddr, SocketAddr) {
    let metrics = app.metrics_address().expect("metrics are on");
    (metrics, app.monitor_address().expect("the monitor is on"))
}

#[tokio::test]
async fn an_app_needs_one_line() {
    static ENQUEUED: LazyLock<MemoryBroker> = LazyLock::new(MemoryBroker::new);
    let broker = ENQUEUED.clone();
    let task = Producer::new(broker.clone()).enqueue(Welcome).await;
    let task = task.expect("enqueued");
    let done = async move { drop(task.result().await) };

    App::new(broker)
        .process(welcome)
        .run(done)
        .await
        .expect("runs");

    let open = ENQUEUED.ping().await;
    assert!(open.is_ok(), "a broker passed to the app stays open");
}

#[tokio::test]
async fn every_configured_part_responds_and_all_stop_in_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let schedule = directory.path().join("schedule.toml");
    let entry = "[[schedule]]\nname = 'hourly'\nrule = '@every 1h'\nevent = 'email:welcome'\n";
    std::fs::write(&schedule, entry).expect("written");
    let config = config(&format!(
        "server_name = 'worker-1'\nscheduler.file = '{}'\nmetrics.address = '127.0.0.1:0'\n\
         [monitoring]\nenable = true\nport = 0\npath = '/ops'\nusername = 'ada'\npassword = 'secret'\n",
        schedule.display()
    ));
    let gate = Gate::default();
    let app = App::from_config(&config).await.expect("connected");
    let broker = app.broker().clone();
    let app = app.state(gate.clone()).process(slow).process(welcome);
    let nightly = Entry::new("nightly", "0 3 * * *", Welcome).expect("a rule");
    let app = app.schedule(nightly).start().await.expect("started");

    assert_eq!(app.server().expect("runs").name().as_str(), "worker-1");
    let schedules = app.inspector().schedules().await.expect("schedules");
    let names: Vec<_> = schedules.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["hourly", "nightly"]);
    let (metrics, monitor) = addresses(&app);
    assert!(monitor.ip().is_loopback());
    assert_eq!(get(metrics, "/livez").await.0, 200);
    assert_eq!(get(metrics, "/readyz").await, (200, "ok\n".into()));
    assert_eq!(get(monitor, "/ops").await.0, 401);
    let page = reqwest::Client::new().get(format!("http://{monitor}/ops/schedules"));
    let page = page.basic_auth("ada", Some("secret")).send().await;
    let page = page.expect("a response").text().await.expect("text");
    assert!(page.contains("hourly"), "{page}");

    app.producer().enqueue(Slow).await.expect("enqueued");
    gate.reached.notified().await;
    let scrape = get(metrics, "/metrics").await.1;
    let series = "asynqueue_queue_size{queue=\"default\",state=\"active\"} 1";
    assert!(scrape.contains(series), "{scrape}");

    let stopping = tokio::spawn(app.shutdown());
    eventually("readiness fails", async || {
        get(metrics, "/readyz").await.0 == 503
    })
    .await;
    let draining = "the program is shutting down\n";
    assert_eq!(get(metrics, "/readyz").await.1, draining);
    assert_eq!(get(metrics, "/livez").await.0, 200, "it lives");
    assert_eq!(get(monitor, "/ops").await.0, 401, "it is served");
    assert_eq!(get(metrics, "/metrics").await.0, 200, "it can be scraped");
    assert!(broker.ping().await.is_ok());
    gate.open.notify_one();
    stopping.await.expect("no panic").expect("stops");

    assert!(broker.ping().await.is_err(), "the broker is closed");
    let url = format!("http://{metrics}/livez");
    assert!(reqwest::get(url).await.is_err(), "nothing listens");
}

#[tokio::test]
async fn a_part_that_cannot_start_is_named_and_the_others_are_stopped() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = held.local_addr().expect("an address");
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = free.local_addr().expect("an address");
    drop(free);
    let broker = MemoryBroker::new();
    let app = || App::new(broker.clone()).metrics_at(at.to_string());
    for (app, start) in [
        (
            app().process(welcome).monitor_at(taken.to_string()),
            format!("the web monitor: cannot listen on `{taken}`: address already in use: "),
        ),
        (app(), "the server: no handler is registered".to_owned()),
        (
            app()
                .process(welcome)
                .scheduler(|scheduler| scheduler.file("no/such/schedule.toml")),
            "the scheduler: ".to_owned(),
        ),
        (
            app().process(welcome).metrics_at(taken.to_string()),
            format!("metrics: cannot listen on `{taken}`: address already in use: "),
        ),
    ] {
        let error = app.start().await.expect_err(&start).to_string();
        assert!(error.starts_with(&start), "{error}");
        // Another test may have the port for a moment.
        let is_free = async || std::net::TcpListener::bind(at).is_ok();
        eventually(&format!("{start}: metrics are stopped"), is_free).await;
        let servers = Inspector::new(broker.clone()).servers().await;
        assert_eq!(servers.expect("servers").len(), 0, "{start}");
    }
    drop(held);
}

#[tokio::test]
async fn a_closed_broker_ends_all_parts_with_the_reason() {
    let broker = MemoryBroker::new();
    let app = App::new(broker.clone()).process(welcome);
    let app = app
        .metrics_at("127.0.0.1:0")
        .scheduler(|scheduler| scheduler);
    let mut app = app.start().await.expect("started");
    let metrics = app.metrics_address().expect("metrics are on");
    broker.close().await;
    let ended = app.ended().await;
    let stopped = app.shutdown().await;
    let error = ended.and(stopped).expect_err("closed");
    assert!(
        matches!(error, AppError::Server(ServerError::Broker(_))),
        "{error}"
    );
    let url = format!("http://{metrics}/livez");
    assert!(reqwest::get(url).await.is_err(), "nothing listens");
}

#[tokio::test]
async fn a_disabled_scheduler_leaves_its_entries_to_other_programs() {
    let config = config("scheduler.enable = false\nscheduler.file = 'no/such/schedule.toml'");
    let app = App::from_config(&config).await.expect("connected");
    let nightly = Entry::new("nightly", "0 3 * * *", Welcome).expect("a rule");
    let app = app.process(welcome).schedule(nightly).start().await;
    let app = app.expect("started");
    let schedules = app.inspector().schedules().await.expect("schedules");
    assert_eq!(schedules.len(), 0);
    app.shutdown().await.expect("stops");
}

#[tokio::test]
async fn an_app_and_a_producer_of_one_configuration_meet_in_redis() {
    let redis = RedisServer::start().await;
    let config = Config::new(redis.url());
    let app = App::from_config(&config).await.expect("connected");
    let app = app.process(welcome).start().await.expect("started");
    let producer = Producer::from_config(&config).await.expect("connected");
    let task = producer.enqueue(Welcome).await.expect("enqueued");
    let done = tokio::time::timeout(Duration::from_secs(30), task.result());
    done.await.expect("in time").expect("done");
    let inspector = Inspector::from_config(&config).await.expect("connected");
    assert_eq!(inspector.servers().await.expect("servers").len(), 1);
    app.shutdown().await.expect("stops");
}

/// As with a SIGTERM while the broker is not responding.
#[tokio::test]
async fn an_app_that_is_stopped_while_it_starts_runs_nothing() {
    let redis = RedisServer::start().await;
    let url = format!("{}?retry_for=10m", redis.url());
    let app = App::from_config(&Config::new(url)).await;
    let app = app.expect("connected").process(welcome);
    redis.pause();
    let stopped = async { tokio::task::yield_now().await };
    let run = tokio::time::timeout(Duration::from_secs(60), app.run(stopped));
    run.await.expect("in time").expect("stops");
    redis.resume();
}

#[tokio::test]
async fn a_broker_that_cannot_be_reached_is_named_without_its_password() {
    let config = Config::new("redis://ada:hunter2@127.0.0.1:1");
    let error = App::from_config(&config).await.expect_err("nothing there");
    let error = error.to_string();
    assert!(error.contains("127.0.0.1:1"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}
