//! Unique tasks: equal payloads are one task, in any order of their parts.

use std::collections::{HashMap, HashSet};

use asynqueue_core::{broker::Conflict, codec::Json, producer::EnqueueError, task::TaskState};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

use crate::harness::{broker, counts};

const TIMES: usize = 20;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "labelled", unique(ttl = "1h"), crate = asynqueue_core)]
struct Labelled {
    labels: HashMap<String, String>,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "tagged", codec = Json, unique(ttl = "1h", fields(tags, weight)), crate = asynqueue_core)]
struct Tagged {
    tags: HashSet<u64>,
    weight: f64,
    note: usize,
}

fn is_duplicate<T>(result: &Result<T, EnqueueError>) -> bool {
    matches!(result, Err(EnqueueError::Conflict(Conflict::Unique { .. })))
}

#[tokio::test]
async fn payloads_with_equal_maps_in_any_order_are_duplicates() {
    let (broker, producer) = broker();
    let labelled = |_| Labelled {
        labels: (0..6).map(|n| (n.to_string(), "x".to_owned())).collect(),
    };
    let results = producer.enqueue_many((0..TIMES).map(labelled)).await;
    assert!(results[0].is_ok());
    assert!(results[1..].iter().all(is_duplicate), "{results:?}");
    let other = Labelled {
        labels: HashMap::new(),
    };
    producer.enqueue(other).await.expect("another");
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 2)]);
}

#[tokio::test]
async fn payloads_with_equal_sets_in_any_order_are_duplicates() {
    let (broker, producer) = broker();
    let tagged = |note| Tagged {
        tags: (0..6).collect(),
        weight: if note % 2 == 0 { 0.0 } else { -0.0 },
        note,
    };
    let results = producer.enqueue_many((0..TIMES).map(tagged)).await;
    assert!(results[0].is_ok());
    assert!(results[1..].iter().all(is_duplicate), "{results:?}");
    let other = Tagged {
        weight: 1.0,
        ..tagged(0)
    };
    producer.enqueue(other).await.expect("another");
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 2)]);
}
