//! The record of changes that people and programs make.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    inspector::{Action, Actor, AuditEntry, AuditQuery, Inspector},
    task::TaskState,
};
use futures_util::StreamExt;
use serde_json::json;

use super::{
    Harness,
    fixture::{Fixture, QUEUE, secs, task, task_ref, tasks, with_payload},
};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn ada(f: &Fixture<'_>) -> Inspector {
    let ada = Actor::new("ada").from_address("203.0.113.7");
    Inspector::new(Arc::clone(&f.broker)).acting_as(ada)
}

async fn words(inspector: &Inspector, query: &AuditQuery) -> Vec<String> {
    let page = inspector.audit(query).await.unwrap();
    page.entries.iter().map(AuditEntry::describe).collect()
}

/// With who made them, from where, when and why.
pub async fn changes_are_recorded_newest_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a", "b"])).await;
    let inspector = ada(&f);
    let before = f.broker.now();
    let queues = [QUEUE.into()];
    inspector.pause_because(&queues, "too hot").await.unwrap();
    f.advance(secs(5_000)).await;
    let archive = Action::Archive("no longer wanted".into());
    inspector.apply(&archive, &[task_ref("a")]).await.unwrap();
    inspector.resume(&queues).await.unwrap();
    f.advance(secs(1)).await;
    let (pending, all) = (TaskState::Pending, "".parse().unwrap());
    let bulk = inspector.apply_to_all(Action::Delete, QUEUE, pending, all);
    bulk.count().await;
    let of_queue = AuditQuery::of_queue(QUEUE);
    let mut found = words(&inspector, &of_queue).await;
    // Two of the same millisecond have no order.
    found[1..3].sort();
    let expected = [
        format!("deleted 1 pending task in queue {QUEUE}"),
        format!("archived task a in queue {QUEUE}: no longer wanted"),
        format!("resumed queue {QUEUE}"),
        format!("paused queue {QUEUE}: too hot"),
    ];
    assert_eq!(found, expected);
    let first = inspector.audit(&of_queue).await.unwrap().entries.remove(3);
    assert_eq!(first.by, inspector.actor().cloned());
    assert!(before <= first.at && first.at < f.broker.now());
    let elsewhere = AuditQuery::of_queue("elsewhere");
    assert_eq!(words(&inspector, &elsewhere).await, [] as [String; 0]);
}

/// Byte by byte, so that it can be restored.
pub async fn an_edit_keeps_the_old_payload(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let old = json!({ "name": "Zoë \u{202e}\0", "n": [1, null] });
    f.enqueue([with_payload("a", &old), task("b")]).await;
    let edit = Action::EditPayload(json!({ "n": 7 }));
    ada(&f).apply(&edit, &[task_ref("a")]).await.unwrap();
    let query = AuditQuery::of_task(task_ref("a"));
    let found = ada(&f).audit(&query).await.unwrap().entries;
    assert_eq!(found.len(), 1);
    let kept = found[0].edit.as_ref().and_then(|edit| edit.payload());
    assert_eq!(kept, Some(old));
    let other = AuditQuery::of_task(task_ref("b"));
    assert_eq!(words(&ada(&f), &other).await, [] as [String; 0]);
}

/// Each entry once, over hours and days.
pub async fn the_audit_is_read_in_pages(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let inspector = ada(&f);
    for n in 0..12 {
        inspector.pause(&[format!("q{n}").into()]).await.unwrap();
        f.advance(if n % 3 == 0 { secs(1_000_000) } else { secs(1) })
            .await;
    }
    let (mut query, mut found) = (AuditQuery::default(), Vec::new());
    query.limit = 5;
    loop {
        let page = inspector.audit(&query).await.unwrap();
        assert!(page.entries.len() <= 5);
        found.extend(page.entries);
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    let found: Vec<_> = found
        .iter()
        .map(|entry| entry.on.name().to_string())
        .collect();
    let expected: Vec<_> = (0..12).rev().map(|n| format!("q{n}")).collect();
    assert_eq!(found, expected);
}

/// And no longer.
pub async fn changes_are_kept_for_ninety_days(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let inspector = ada(&f);
    inspector.pause(&["old".into()]).await.unwrap();
    f.advance(89 * DAY).await;
    inspector.pause(&["new".into()]).await.unwrap();
    let all = AuditQuery::default();
    let both = ["paused queue new", "paused queue old"];
    assert_eq!(words(&inspector, &all).await, both);
    f.advance(2 * DAY).await;
    assert_eq!(words(&inspector, &all).await, both[..1]);
}
