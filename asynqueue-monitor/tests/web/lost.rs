//! Attempts that were lost with their server are shown beside the failed ones, not among them.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, LeaseRequest, Outcome, Settled, Settlement, all_of},
    memory::MemoryBroker,
    producer::Producer,
};
use asynqueue_test_servers::eventually;
use serde_json::Value;

use super::site::{Email, Site};

/// Loses attempts of the queue, whose tasks then wait.
async fn lose(broker: &MemoryBroker, attempts: usize) {
    let producer = Producer::new(broker.clone());
    for n in 0..attempts {
        let email = Email { to: n.to_string() };
        producer.enqueue(email).await.expect("accepted");
    }
    let queues = vec![("mail".into(), attempts)];
    let request = LeaseRequest::new(queues, attempts, Duration::ZERO, "dead".into());
    let leased = all_of(broker.lease(&request).await).expect("leased");
    let lost = leased.concat().into_iter().map(|leased| Settlement {
        only_if_expired: true,
        ..leased.settle(Outcome::Retry {
            delay: Duration::ZERO,
        })
    });
    let lost: Vec<_> = lost.collect();
    let settled = all_of(broker.settle(&lost).await).expect("settled");
    assert_eq!(settled, vec![Settled::Recorded; attempts]);
}

#[tokio::test]
async fn lost_attempts_are_beside_the_failed_ones() {
    let broker = MemoryBroker::new();
    lose(&broker, 1_200).await;
    let site = Site::on(broker.into()).await;
    let lost = " · 1\u{202f}200 lost</span>";
    let (total, row) = (
        r#"<span data-total="failed">0</span><span data-total="lost">"#,
        r#"<span data-figure="failed">0</span><span data-figure="lost">"#,
    );
    let page = site.page("/").await;
    for expected in [total, row] {
        assert!(page.contains(&format!("{expected}{lost}")), "{page}");
    }
    let bar = r#"<b data-figure="failed">0</b> failed<span data-figure="lost">"#;
    let page = site.page("/queues/mail").await;
    assert!(page.contains(&format!("{bar}{lost}")), "{page}");
    let queue = site.page("/api/queues/mail").await;
    let queue: Value = serde_json::from_str(&queue).expect("JSON");
    for (field, attempts) in [
        ("lost", 1_200),
        ("lost_today", 1_200),
        ("failed", 0),
        ("failed_today", 0),
    ] {
        assert_eq!(queue[field], attempts, "{field}");
    }
    let hours = site.page("/api/queues/mail/history").await;
    let hours: Vec<Value> = serde_json::from_str(&hours).expect("JSON");
    let sum = |field: &str| hours.iter().map(|hour| hour[field].as_u64()).sum();
    assert_eq!((sum("lost"), sum("failed")), (Some(1_200), Some(0)));
}

/// Without losses, nothing about them is shown.
#[tokio::test]
async fn a_page_without_lost_attempts_does_not_name_them() {
    let site = Site::new().await;
    for path in ["/", "/queues/mail"] {
        let page = site.page(path).await;
        assert!(!page.contains(" lost<"), "{path}: {page}");
    }
}

/// A queue whose tasks were deleted still has its figures.
#[tokio::test]
async fn a_queue_with_only_lost_attempts_exists() {
    let broker = MemoryBroker::new();
    lose(&broker, 1).await;
    let site = Site::on(broker.clone().into()).await;
    let queues = vec![("mail".into(), 1)];
    let request = LeaseRequest::new(queues, 1, Duration::from_secs(30), "worker".into());
    let leased = all_of(broker.lease(&request).await).expect("leased");
    let leased = leased.concat().remove(0);
    let dropped = broker.settle(&[leased.settle(Outcome::Drop)]).await;
    all_of(dropped).expect("dropped");
    eventually("the figure of the queue", async || {
        site.page("/queues/mail").await.contains(" · 1 lost<")
    })
    .await;
}
