//! Entries and queues that fail.

use std::time::Duration;

use asynqueue_core::{
    broker::{Fleet, OutboxAction, OutboxInfo},
    outbox::{Outbox, StoredTask, Which},
};

use crate::{
    gate::Life,
    stage::{Stage, beside, task, until},
};

fn ids(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|id| id.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_rejected_task_holds_up_no_other_and_can_be_retried() {
    let stage = Stage::new();
    stage.faults.rejected.lock().insert("2".into());
    stage
        .outbox
        .commit(ids(0..5).iter().map(|id| task("a", id)));
    stage.run(&Life::endless()).await;
    assert_eq!(stage.accepted("a"), ["0", "1", "3", "4"]);
    let reason = "unexpected response from the broker: task 2 is too large";
    assert_eq!(stage.failed().await, [("2".into(), reason.into())]);

    stage.faults.rejected.lock().clear();
    assert_eq!(stage.outbox.retry(Which::All).await.expect("retried"), 1);
    stage.run(&Life::endless()).await;
    assert_eq!(stage.accepted("a").last().map(String::as_str), Some("2"));
    assert_eq!(stage.failed().await, []);
}

/// For example, because a permission is missing. It would empty the outbox otherwise.
#[tokio::test(start_paused = true)]
async fn a_broker_that_rejects_everything_fails_few_entries() {
    let stage = Stage::new();
    stage.faults.rejected.lock().extend(ids(0..1_000));
    stage
        .outbox
        .commit(ids(0..1_000).iter().map(|id| task("a", id)));
    let life = Life::endless();
    let relay = stage.relay(&life).run(std::future::pending());
    beside(relay, tokio::time::sleep(Duration::from_secs(300))).await;
    let failed = stage.failed().await.len();
    assert!((5..50).contains(&failed), "{failed}");
    // Once it works, all are relayed, and the failed ones after a retry.
    stage.faults.rejected.lock().clear();
    stage.clock.advance(Duration::from_secs(11));
    stage.run(&Life::endless()).await;
    stage.outbox.retry(Which::All).await.expect("retried");
    stage.run(&Life::endless()).await;
    let mut accepted = stage.accepted("a");
    accepted.sort_by_key(|id| id.parse::<u32>().expect("a number"));
    assert_eq!(accepted, ids(0..1_000));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_respond_holds_up_no_other_and_keeps_its_order() {
    let stage = Stage::new();
    stage.faults.silent.lock().insert("a".into());
    // More than a relay takes together.
    stage
        .outbox
        .commit(ids(0..3_000).iter().map(|id| task("a", id)));
    stage
        .outbox
        .commit(ids(0..700).iter().map(|id| task("b", id)));
    let life = Life::endless();
    let relay = stage.relay(&life).run(std::future::pending());
    let test = async {
        until("the other queue is relayed", async || {
            stage.accepted("b").len() == 700
        })
        .await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let calls = stage.calls();
        assert!(calls < 60, "{calls} calls in a minute");
        let error = Fleet::outboxes(&stage.store)
            .await
            .expect("read")
            .remove(0)
            .error;
        assert_eq!(
            error.as_deref(),
            Some("queue `a`: the broker is unavailable: no response")
        );
        stage.faults.silent.lock().clear();
        until("all are relayed", async || stage.waiting().await == 0).await;
    };
    beside(relay, test).await;
    assert_eq!(stage.accepted("a"), ids(0..3_000));
    assert_eq!(stage.accepted("b"), ids(0..700));
    assert_eq!(stage.failed().await, []);
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_entry_is_kept_and_those_behind_it_are_relayed() {
    let stage = Stage::new();
    stage.outbox.commit([task("a", "1")]);
    let mut row = StoredTask::of(&task("a", "2"));
    row.envelope = b"?".to_vec();
    stage.outbox.commit_rows([row]);
    stage.outbox.commit([task("a", "3")]);
    stage.run(&Life::endless()).await;
    assert_eq!(stage.accepted("a"), ["1", "3"]);
    let failed = stage.failed().await;
    assert_eq!(failed.len(), 1);
    assert!(
        failed[0].1.starts_with("invalid task envelope: "),
        "{failed:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_relay_reports_its_outbox_and_follows_requests() {
    let stage = Stage::new();
    stage
        .faults
        .rejected
        .lock()
        .extend(["1".into(), "2".into()]);
    stage
        .outbox
        .commit(ids(0..3).iter().map(|id| task("a", id)));
    let life = Life::endless();
    let relay = stage.relay(&life).run(std::future::pending());
    let report = async || -> Option<OutboxInfo> {
        let outboxes = Fleet::outboxes(&stage.store).await.expect("read");
        assert!(outboxes.len() <= 1);
        outboxes.into_iter().next()
    };
    let test = async {
        until("it is reported", async || {
            report().await.is_some_and(|report| report.failed == 2)
        })
        .await;
        let info = report().await.expect("a report");
        assert_eq!((&*info.name, info.waiting, info.accepted), ("list", 0, 1));
        let reasons: Vec<_> = info.entries.iter().map(|entry| &*entry.id).collect();
        assert_eq!(reasons, ["1", "2"]);

        stage.faults.rejected.lock().clear();
        let places: Vec<_> = info.entries.iter().map(|entry| entry.place).collect();
        for action in [
            OutboxAction::Retry(places[0]),
            OutboxAction::Delete(places[1]),
        ] {
            let requested = stage.store.request_outbox(&info.id, vec![action]).await;
            assert!(requested.expect("requested"));
        }
        until("the requests are followed", async || {
            report()
                .await
                .is_some_and(|report| report.failed == 0 && report.accepted == 2)
        })
        .await;
        let nobody = "unknown".into();
        let unknown = stage
            .store
            .request_outbox(&nobody, vec![OutboxAction::RetryAll]);
        assert!(!unknown.await.expect("requested"));
    };
    beside(relay, test).await;
    assert_eq!(stage.accepted("a"), ["0", "1"]);
    assert_eq!(stage.failed().await, []);
    // The request is removed once it is followed.
    let documents = asynqueue_core::broker::Store::documents(
        &stage.store,
        asynqueue_core::broker::Space::Outboxes,
    );
    assert_eq!(documents.await.expect("read").len(), 1);
}
