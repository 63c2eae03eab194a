//! Relays that take over, connections that are terminated, and responses that are lost.

use std::time::Duration;

use asynqueue_core::{
    memory::MemoryBroker,
    outbox::{Done, Entry, Outbox, Relay, Take, Taken},
    producer::Producer,
    task::Name,
};
use asynqueue_test_servers::Postgres;

use crate::{Credit, Shop, all, assert_accepted, open, take};

/// Writes tasks, each in a transaction.
async fn write(shop: &Shop, cents: std::ops::Range<i64>) {
    let mut db = shop.db().await;
    for cents in cents {
        let tx = db.transaction().await.expect("begun");
        let written = shop.outbox.enqueue_in(&tx, shop.credit(cents)).await;
        written.expect("written");
        tx.commit().await.expect("committed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_relays_take_turns_and_enqueue_each_task_once() {
    let shop = Shop::open().await;
    let other = open(&shop.url).await;
    let mut relays = Vec::new();
    for outbox in [&shop.outbox, &other] {
        relays.push(Relay::new(shop.broker.clone(), outbox.clone()).start());
    }
    write(&shop, 0..100).await;
    shop.drained().await;
    // The one that has the turn, and then the other.
    for (part, relay) in (1..).zip(relays) {
        relay.shutdown().await;
        write(&shop, part * 100..(part + 1) * 100).await;
        if part == 1 {
            shop.drained().await;
        }
    }
    shop.relay_all().await;
    assert_accepted(&shop, 0..300).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_connections_are_terminated_relays_everything_once() {
    let shop = Shop::open().await;
    let relay = shop.relay();
    let writing = write(&shop, 0..400);
    let terminating = async {
        let db = shop.server.client().await;
        let name = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'asynqueue' \
             and query like $1";
        let of_schema = shop.url.split_once("?schema=").expect("a schema").1;
        let mut terminated = 0;
        while terminated < 8 {
            let rows = db.query(name, &[&format!("%\"{of_schema}\"%")]).await;
            terminated += rows.expect("terminated").len();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::join!(writing, terminating);
    shop.drained().await;
    relay.shutdown().await;
    assert_accepted(&shop, 0..400).await;
    assert_eq!(shop.outbox.failed(0, 10).await.expect("read"), []);
}

/// The relay then forgets what it has sent under an earlier turn, in which others may have sent it too.
#[tokio::test(flavor = "multi_thread")]
async fn a_turn_whose_response_was_lost_is_new_to_its_relay() {
    let shop = Shop::open().await;
    let relay = Name::from("relay");
    let is_new = async |outbox: &dyn Outbox| match outbox.take(&all(&relay)).await {
        Ok(Taken::Turn { is_new, .. }) => is_new,
        other => panic!("expected a turn: {other:?}"),
    };
    assert!(is_new(&shop.outbox).await);
    assert!(!is_new(&shop.outbox).await);
    // Another handle stands for a call of this relay whose response did not arrive.
    let longer = Take {
        turn: Duration::from_secs(200),
        ..all(&relay)
    };
    let lost = open(&shop.url).await;
    lost.take(&longer).await.expect("taken");
    let soon = Take {
        turn: Duration::from_secs(300),
        ..all(&relay)
    };
    match shop.outbox.take(&soon).await.expect("taken") {
        Taken::Turn { is_new, .. } => assert!(is_new),
        Taken::Busy => panic!("it is the same relay"),
    }
}

/// Although the sessions of the relay do not wait for the disk.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_failures_survive_a_crash_of_the_server() {
    let settings = ["synchronous_commit=off", "wal_writer_delay=10s"];
    let mut server = Postgres::with(&settings).await;
    let url = server.url();
    let outbox = open(&url).await;
    let producer = Producer::new(MemoryBroker::new());
    let mut db = server.client().await;
    let tx = db.transaction().await.expect("begun");
    let tasks = [1, 2].map(|cents| producer.prepare(Credit { cents }).expect("prepared"));
    let written = outbox.enqueue_many_in(&tx, tasks).await;
    written.expect("written");
    tx.commit().await.expect("committed");
    let relay = Name::from("relay");
    let taken = take(&outbox, &relay).await;
    let numbers = |entries: &[Entry]| -> Vec<(u64, u64)> {
        let number = |entry: &Entry| (entry.place, entry.number);
        entries.iter().map(number).collect()
    };
    server.kill();
    server.restart().await;
    let again = take(&outbox, &relay).await;
    assert_eq!(numbers(&again), numbers(&taken));
    let done = [Done::Fail(taken[0].place, "too large".into())];
    assert!(outbox.finish(&relay, &done).await.expect("recorded"));
    server.kill();
    server.restart().await;
    assert_eq!(numbers(&take(&outbox, &relay).await), numbers(&taken[1..]));
}
