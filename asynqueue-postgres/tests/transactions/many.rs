//! Ten thousand business transactions in several processes, of which some die: the tasks are those of the committed
//! transactions.

use std::collections::BTreeSet;

use futures_util::FutureExt;

use crate::{
    Credit, Shop,
    child::{self, Child},
    common,
};
use asynqueue_core::producer::Producer;
use asynqueue_test_servers::Postgres;

const PROCESSES: i64 = 4;
const EACH: i64 = 2_500;

/// How a process dies in one of its transactions.
const DEATHS: [&str; 3] = ["before", "amid", "after"];

fn rolls_back(n: i64) -> bool {
    n % 3 == 0
}

/// In another process: transactions `from..to`, of which `dies` is the last one.
pub(crate) async fn trade(url: &str, plan: &str) {
    let plan: Vec<_> = plan.split(' ').collect();
    let number = |place: usize| plan[place].parse::<i64>().expect("a number");
    let (from, to, dies, how) = (number(0), number(1), number(2), plan[3]);
    let broker = common::open(url).await;
    let producer = Producer::new(broker.clone());
    let mut db = Postgres::connect(url).await;
    for n in from..to {
        let tx = db.transaction().await.expect("begun");
        let insert = "insert into account (id, cents) values ($1, 1)";
        tx.execute(insert, &[&n]).await.expect("inserted");
        let task = producer.enqueue(Credit { cents: 1 }).id(n.to_string());
        let task = task.prepare().expect("prepared");
        broker.enqueue_in(&tx, task).await.expect("enqueued");
        if n == dies && how == "before" {
            child::die();
        }
        if n != dies && rolls_back(n) {
            tx.rollback().await.expect("rolled back");
            continue;
        }
        let commit = tx.commit();
        if n == dies && how == "amid" {
            // Sends it, and does not wait for the response.
            let _ = commit.now_or_never();
            child::die();
        }
        commit.await.expect("committed");
        if n == dies {
            child::die();
        }
    }
    child::respond("done");
}

/// Runs a part of the transactions, in one process after the other.
fn run(url: &str, part: i64) -> Vec<(i64, &'static str)> {
    let (mut from, to) = (part * EACH, (part + 1) * EACH);
    let mut deaths = Vec::new();
    for (place, how) in DEATHS.into_iter().enumerate() {
        let dies = from + 400 + 37 * part + 11 * place as i64;
        let plan = format!("business {from} {to} {dies} {how}");
        let mut process = Child::launch(&plan, url);
        assert_eq!(process.read(), None, "it dies in transaction {dies}");
        assert!(!process.wait());
        deaths.push((dies, how));
        from = dies + 1;
    }
    let mut process = Child::launch(&format!("business {from} {to} -1 never"), url);
    assert_eq!(process.read().as_deref(), Some("done"));
    assert!(process.wait());
    deaths
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_tasks_of_ten_thousand_transactions_are_those_of_the_committed_ones() {
    let shop = Shop::open().await;
    let parts: Vec<_> = (0..PROCESSES)
        .map(|part| {
            let url = shop.url.clone();
            tokio::task::spawn_blocking(move || run(&url, part))
        })
        .collect();
    let mut deaths = Vec::new();
    for part in parts {
        deaths.extend(part.await.expect("the processes behave"));
    }
    let db = shop.db().await;
    // The transaction of a dead process may not be rolled back yet.
    asynqueue_test_servers::eventually("no transaction is open", async || {
        let open = "select count(*) from pg_stat_activity where query like '%account%' and pid <> pg_backend_pid() \
             and state <> 'idle' and application_name <> 'asynqueue'";
        db.query_one(open, &[]).await.expect("a row").get::<_, i64>(0) == 0
    })
    .await;
    let rows = db.query("select id from account", &[]).await;
    let committed: BTreeSet<i64> = rows.expect("rows").iter().map(|row| row.get(0)).collect();
    let mut expected: BTreeSet<i64> = (0..PROCESSES * EACH).filter(|n| !rolls_back(*n)).collect();
    for (n, how) in deaths {
        let is_committed = match how {
            "before" => false,
            "after" => true,
            _ => committed.contains(&n),
        };
        match is_committed {
            true => expected.insert(n),
            false => expected.remove(&n),
        };
    }
    assert!(committed == expected, "the transactions are as planned");
    let queue = asynqueue_core::task::Name::from("default");
    let mut found = BTreeSet::new();
    loop {
        let queues = vec![(queue.clone(), 1_000)];
        let request = asynqueue_core::broker::LeaseRequest::new(
            queues,
            1_000,
            common::LIMIT,
            "worker".into(),
        );
        let leased = asynqueue_core::broker::Broker::lease(&shop.broker, &request).await;
        let leased = leased.expect("a call").remove(0).expect("a queue");
        if leased.is_empty() {
            break;
        }
        for one in leased {
            let id: i64 = one.envelope.id.as_str().parse().expect("a number");
            assert!(found.insert(id), "task {id} is leased twice");
        }
    }
    let differing: Vec<_> = found.symmetric_difference(&committed).collect();
    assert!(
        differing.is_empty(),
        "tasks without a row, or rows without a task: {differing:?}"
    );
}
