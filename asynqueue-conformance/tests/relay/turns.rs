//! Several relays, several outboxes, and copies of one.

use std::time::Duration;

use asynqueue_conformance::outbox::ListOutbox;
use asynqueue_core::{outbox::Outbox, outbox::Which};

use crate::{
    gate::Life,
    stage::{Stage, beside, task, until},
};

#[tokio::test(start_paused = true)]
async fn one_of_two_relays_works_and_the_other_stands_by() {
    let stage = Stage::new();
    let (one, two) = (Life::endless(), Life::endless());
    let relays = async {
        let one = stage.relay(&one).run(std::future::pending());
        let two = stage.relay(&two).run(std::future::pending());
        tokio::join!(one, two)
    };
    let ids: Vec<String> = (0..500).map(|id| id.to_string()).collect();
    let test = async {
        for id in &ids {
            stage.outbox.commit([task("a", id)]);
            tokio::task::yield_now().await;
        }
        until("all are relayed", async || stage.waiting().await == 0).await;
    };
    beside(relays, test).await;
    assert_eq!(stage.accepted("a"), ids);
}

#[tokio::test(start_paused = true)]
async fn another_relay_takes_over_within_seconds_after_a_death() {
    let stage = Stage::new();
    let first = stage.relay(&Life::endless());
    let dead = async {
        let died = tokio::time::sleep(Duration::from_secs(3));
        tokio::select! { () = first.run(std::future::pending()) => {} () = died => {} }
    };
    dead.await;
    stage.outbox.commit([task("a", "1")]);
    let relay = stage.relay(&Life::endless()).run(std::future::pending());
    let clock = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            stage.clock.advance(Duration::from_millis(100));
        }
    };
    let started = tokio::time::Instant::now();
    let both = async { tokio::join!(relay, clock) };
    beside(
        both,
        until("it is relayed", async || stage.waiting().await == 0),
    )
    .await;
    let took = started.elapsed();
    assert!(
        took > Duration::from_secs(5),
        "the dead relay had the turn: {took:?}"
    );
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn two_outboxes_to_one_broker_do_not_mix() {
    let stage = Stage::new();
    let other = ListOutbox::with_clock(stage.clock.clone());
    let relays = async {
        let (one, two) = (Life::endless(), Life::endless());
        let one = stage.relay(&one).run(std::future::pending());
        let two = stage.relay_of(&other, &two).run(std::future::pending());
        tokio::join!(one, two)
    };
    let test = async {
        for id in 0..20 {
            stage.outbox.commit([task("a", &format!("one-{id}"))]);
            other.commit([task("a", &format!("two-{id}"))]);
            let is_drained = async || {
                let waiting = other.size().await.expect("a size").waiting;
                waiting + stage.waiting().await == 0
            };
            until("both are relayed", is_drained).await;
        }
    };
    beside(relays, test).await;
    assert_eq!(stage.accepted("a").len(), 40);
    assert_eq!(stage.failed().await, []);
}

/// The backup has entries that were relayed after it was made. Later entries are new.
#[tokio::test(start_paused = true)]
async fn an_outbox_restored_from_a_backup_loses_nothing_and_doubles_nothing() {
    let stage = Stage::new();
    stage.outbox.commit([task("a", "1"), task("a", "2")]);
    let backup = stage.outbox.backup();
    stage.run(&Life::endless()).await;
    stage.outbox.commit([task("a", "lost")]);
    stage.run(&Life::endless()).await;
    stage.work().await;
    assert_eq!(stage.accepted("a"), ["1", "2", "lost"]);

    stage.clock.advance(Duration::from_secs(60));
    let restored = Stage {
        outbox: backup,
        ..stage
    };
    restored.outbox.commit([task("a", "new")]);
    restored.run(&Life::endless()).await;
    // Those of the backup have their old numbers again: a person decides whether they have run.
    assert_eq!(restored.accepted("a"), ["1", "2", "lost", "new"]);
    let failed: Vec<_> = restored
        .failed()
        .await
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(failed, ["1", "2"]);
}

/// A second copy of the database is relayed too. Nothing is lost in silence.
#[tokio::test(start_paused = true)]
async fn entries_of_a_copy_whose_numbers_are_taken_are_kept_as_failed() {
    let stage = Stage::new();
    stage.outbox.commit([task("a", "1")]);
    stage.run(&Life::endless()).await;
    let copy = stage.outbox.backup();
    let ids: Vec<String> = (0..50).map(|id| format!("original-{id}")).collect();
    stage.outbox.commit(ids.iter().map(|id| task("a", id)));
    stage.run(&Life::endless()).await;

    let copy = Stage {
        outbox: copy,
        ..stage
    };
    copy.outbox.commit([task("a", "of-the-copy")]);
    copy.run(&Life::endless()).await;
    let failed = copy.failed().await;
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].0, "of-the-copy");
    assert!(
        failed[0]
            .1
            .starts_with("the queue has already accepted this number or a later one")
    );
    // A retry gives it a number by the clock.
    copy.clock.advance(Duration::from_secs(1));
    assert_eq!(copy.outbox.retry(Which::All).await.expect("retried"), 1);
    copy.run(&Life::endless()).await;
    assert_eq!(
        copy.accepted("a").last().map(String::as_str),
        Some("of-the-copy")
    );
}
