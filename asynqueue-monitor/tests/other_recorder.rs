//! A program that has a recorder already. Apart from the other tests, since a process has but one.

use asynqueue_core::{memory::MemoryBroker, metrics::QueueMetrics};
use asynqueue_monitor::metrics::{Exporter, install, prometheus};

#[tokio::test]
async fn a_recorder_of_the_programs_own_is_named_and_can_be_exported() {
    let recorder = prometheus().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).expect("the first");
    metrics::counter!("sales_total").increment(7);

    let error = install().expect_err("taken").to_string();
    assert!(
        error.contains("another recorder") && error.contains("PrometheusHandle"),
        "{error}"
    );

    let broker = MemoryBroker::new();
    let text = Exporter::new(handle.clone())
        .broker(broker.clone())
        .render()
        .await;
    assert!(text.contains("sales_total 7"), "{text}");
    assert!(text.contains("asynqueue_queues 0"), "{text}");

    // Or by hand, into the program's own.
    QueueMetrics::new(broker)
        .collect()
        .await
        .expect("collected")
        .record();
    assert!(handle.render().contains("asynqueue_queues 0"));
}
