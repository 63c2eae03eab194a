//! The metrics, the dashboard and the alerts, checked with a real Prometheus.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use asynqueue::{memory::MemoryBroker, metrics, outbox::Relay};
use asynqueue_conformance::{calls::task_of, outbox::ListOutbox};
use asynqueue_test_servers::{Prometheus, RedisServer};
use serde_json::Value;

use super::shop::Shop;

/// These tests do not collect spans.
const NO_COLLECTOR: &str = "http://127.0.0.1:1";

fn docs(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(path)
}

fn promtool(dir: &Path, args: &[&str], input: &str) -> Output {
    let mut command = Command::new("promtool");
    command.args(args).current_dir(dir);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .expect("promtool, which scripts/test installs");
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("read");
    drop(stdin);
    child.wait_with_output().expect("ended")
}

fn assert_success(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let all = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{all}");
}

#[test]
fn the_alerts_are_valid_and_pass_their_tests() {
    let dir = docs("prometheus");
    assert_success(&promtool(&dir, &["check", "rules", "alerts.yml"], ""));
    assert_success(&promtool(&dir, &["test", "rules", "alerts_test.yml"], ""));
}

/// Every query of the dashboard by its panel, as Grafana would send it.
fn queries() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(docs("grafana/asynqueue.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| {
            let query = target["expr"].as_str().expect("a query");
            let query = query
                .replace("$queue", ".*")
                .replace("$__rate_interval", "10s");
            (format!("{title} {}", target["refId"]), query)
        })
    });
    targets.collect()
}

/// A query may have data without its metric: `or vector(0)`.
#[test]
fn every_metric_of_the_dashboard_is_on_the_list() {
    let list = docs("../asynqueue-core/src/metrics/names.md");
    let list = std::fs::read_to_string(list).expect("the list");
    for (panel, query) in queries() {
        let words = query.split(|c: char| !c.is_alphanumeric() && c != '_');
        let mut metrics = words
            .filter(|word| word.starts_with("asynqueue_"))
            .peekable();
        assert!(metrics.peek().is_some(), "{panel}: {query}");
        for metric in metrics {
            let name = metric.trim_end_matches("_bucket");
            assert!(list.contains(&format!("| `{name}` |")), "{panel}: {metric}");
        }
    }
}

/// The queries that have returned no number yet.
async fn without_data(
    prometheus: &Prometheus,
    queries: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut without = BTreeMap::new();
    for (panel, query) in queries {
        let values = prometheus.query(&query).await;
        if !values.iter().any(|value| value.is_finite()) {
            without.insert(panel, query);
        }
    }
    without
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_the_example_and_every_panel_has_data() {
    let redis = RedisServer::start().await;
    let shop = Shop::start(&redis.url(), NO_COLLECTOR);
    let (status, metrics) = shop.get("/metrics").await;
    assert_eq!(status, 200);
    // Checks names and help texts.
    assert_success(&promtool(&docs(""), &["check", "metrics"], &metrics));

    // The example has no outbox, so this process relays one.
    let relays = metrics::serve("127.0.0.1:0").await.expect("served");
    let outbox = ListOutbox::default();
    let relay = Relay::new(MemoryBroker::new(), outbox.clone()).start();
    let addresses = [
        shop.url.trim_start_matches("http://"),
        &relays.address().to_string(),
    ];
    let prometheus = Prometheus::scraping(&addresses, &docs("prometheus/alerts.yml")).await;
    let mut left = queries();
    assert!(left.len() > 30, "{left:?}");
    let mut relayed = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    // A rate needs a few scrapes with activity between them.
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "no data for {left:#?}");
        for lines in [1, 2, 12] {
            shop.order(lines, None).await;
        }
        relayed += 1;
        outbox.commit([task_of(&relayed.to_string())]);
        left = without_data(&prometheus, left).await;
    }

    relay.shutdown().await;

    let targets = prometheus.api("targets").await;
    for target in 0..addresses.len() {
        let health = &targets["activeTargets"][target]["health"];
        assert_eq!(health, "up", "{targets}");
    }
    let groups = prometheus.api("rules").await;
    let rules = groups["groups"][0]["rules"]
        .as_array()
        .expect("rules")
        .clone();
    assert_eq!(rules.len(), 17);
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

/// Readiness fails, so that a load balancer stops sending requests; liveness does not, so that the process is not
/// killed.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_fails_while_redis_is_down_and_recovers_with_it() {
    let mut redis = RedisServer::with(&["--appendonly", "yes"]).await;
    let shop = Shop::start(&redis.url(), NO_COLLECTOR);
    assert_eq!(shop.get("/readyz").await, (200, "ok\n".into()));
    redis.kill();
    let (status, reason) = shop.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(
        reason.contains("Redis at 127.0.0.1")
            || reason.contains("the broker did not respond within 2s"),
        "{reason}"
    );
    assert_eq!(shop.get("/livez").await.0, 200);
    asynqueue_test_servers::eventually("the metrics show it", || async {
        let (_, metrics) = shop.get("/metrics").await;
        let is_down = metrics.contains("\nasynqueue_broker_up 0\n");
        is_down && metrics.contains("\nasynqueue_broker_failures_total{call=")
    })
    .await;
    redis.start_again().await;
    asynqueue_test_servers::eventually("it is ready again", || async {
        shop.get("/readyz").await.0 == 200
    })
    .await;
    let (_, metrics) = shop.get("/metrics").await;
    assert!(metrics.contains("\nasynqueue_broker_up 1\n"), "{metrics}");
    let reconnects = metrics
        .lines()
        .find_map(|line| line.strip_prefix("asynqueue_redis_reconnects_total "));
    assert!(reconnects.is_some_and(|n| n != "0"), "{reconnects:?}");
}
