//! A program with its own recorder. A separate test binary, because a process has only one recorder.

use asynqueue_core::{memory::MemoryBroker, metrics::QueueMetrics};
use asynqueue_monitor::metrics::{Exporter, install, prometheus};

#[tokio::test]
async fn another_recorder_is_reported_and_can_be_exported() {
    let recorder = prometheus().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the first");
    metrics::counter!("sales_total").increment(7);

    let error = install().expect_err("taken").to_string();
    assert!(
        error.starts_with("another recorder is already installed")
            && error.contains("PrometheusHandle"),
        "{error}"
    );

    let broker = MemoryBroker::new();
    let text = Exporter::new(handle.clone())
        .broker(broker.clone())
        .render()
        .await;
    assert!(text.contains("sales_total 7"), "{text}");
    assert!(text.contains("asynqueue_queues 0"), "{text}");

    // Or recorded manually into the program's own recorder.
    QueueMetrics::new(broker)
        .collect()
        .await
        .expect("collected")
        .record();
    assert!(handle.render().contains("asynqueue_queues 0"));
}
