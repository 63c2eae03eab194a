//! Charts from Prometheus.

use std::path::Path;

use asynqueue_monitor::{Monitor, metrics};
use asynqueue_test_servers::Prometheus;

use super::site::Site;

#[tokio::test]
async fn charts_show_series_from_prometheus() {
    let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/prometheus/alerts.yml");
    let site = Site::new().await;
    let exporter = metrics::install().expect("installed");
    let exporter = exporter.broker(site.broker.clone());
    let exporter = exporter.serve("127.0.0.1:0").await.expect("served");
    let prometheus = Prometheus::scraping(&[&exporter.address().to_string()], &rules).await;

    let monitor = Monitor::of(site.inspector.clone());
    let monitor = monitor.prometheus(prometheus.url()).expect("an address");
    let endpoint = monitor.serve("127.0.0.1:0").await.expect("served");
    let site = Site { endpoint, ..site };
    site.until_says("/charts", "archived, last: 1").await;
    site.until_says("/charts?queue=mail&span=7d", "retry, last: 1")
        .await;
    // A queue that has had no task.
    let _server = site.serve("worker-1").await;
    let page = site.page("/charts?queue=other").await;
    assert!(page.contains("Tasks by state: no data."), "{page}");
}

#[tokio::test]
async fn the_other_charts_work_while_prometheus_is_not_responding() {
    let nobody = "http://127.0.0.1:1/prometheus";
    let site = Site::of(|monitor| monitor.prometheus(nobody).expect("an address")).await;
    let page = site.page("/charts").await;
    assert!(
        page.contains("Attempts in the last 24 hours: 1 succeeded"),
        "{page}"
    );
    assert!(
        page.contains("Prometheus at http://127.0.0.1:1/prometheus is not responding: "),
        "{page}"
    );
}

#[tokio::test]
async fn the_password_of_prometheus_is_never_shown() {
    let prometheus = |monitor: Monitor| {
        let url = "http://prom:s3cret@127.0.0.1:1";
        monitor.prometheus(url).expect("an address")
    };
    let page = Site::of(prometheus).await.page("/charts").await;
    assert!(page.contains("is not responding"), "{page}");
    assert!(!page.contains("s3cret"), "{page}");
}
