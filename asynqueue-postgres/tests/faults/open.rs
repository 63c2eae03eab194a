//! Transactions of other programs that stay open: what they hold delays nobody who does not want the same.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{Control, Extended, Keep, Outcome, Settled, Store, all_of},
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::{Aggregate, Name, TaskState, UniqueKey, UniqueLock, UniqueUntil},
    testing::TestClock,
};
use asynqueue_postgres::{CompleteIn, PostgresBroker};
use asynqueue_test_servers::{Postgres, eventually};
use tokio::sync::{Semaphore, mpsc};
use tokio_postgres::Client;

use crate::{Count, Once, common};

pub(crate) struct Shop {
    _server: Arc<Postgres>,
    pub(crate) url: String,
    pub(crate) broker: PostgresBroker,
    pub(crate) producer: Producer,
    /// The connection of another program.
    pub(crate) program: Client,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let server = Postgres::shared().await;
        let url = server.new_schema();
        let broker = impatient(&url).await;
        Self {
            producer: Producer::new(broker.clone()),
            program: Postgres::connect(&url).await,
            broker,
            _server: server,
            url,
        }
    }

    /// Everything that servers and producers do with queue `q`.
    pub(crate) async fn everything_works(&self) {
        for task in ["work-1", "work-2"] {
            common::work(&self.broker, task).await;
        }
        common::enqueue(&self.broker, "retried")
            .await
            .expect("accepted");
        self.servers_work().await;
    }

    /// Everything that servers do with queue `q`, whose only task is `retried`.
    pub(crate) async fn servers_work(&self) {
        let (broker, queues) = (&self.broker, [Name::from("q")]);
        let leased = common::lease(broker, 1).await.expect("leased");
        let extended = broker.extend(&[leased[0].lease()], common::LIMIT).await;
        assert!(matches!(extended.expect("a call")[0], Ok(Extended::Yes)));
        let retry = Outcome::Retry {
            delay: Duration::from_millis(1),
        };
        let settled = common::settle(broker, &leased[0], retry).await;
        assert_eq!(settled.expect("an outcome"), Settled::Recorded);
        eventually("it is due", async || {
            let forwarded = all_of(broker.forward(&queues, 10).await).expect("forwarded");
            forwarded[0].moved == 1
        })
        .await;
        assert_eq!(common::drain(broker).await, ["retried"]);
        all_of(broker.trim(&queues, Keep::default(), 100).await).expect("trimmed");
        all_of(broker.expired(&queues, broker.now(), 100).await).expect("looked for");
        broker.stats(&queues).await.expect("figures");
        for paused in [true, false] {
            let set = Control::set_paused(broker, &queues, paused).await;
            set.expect("paused or resumed");
        }
    }
}

/// A broker whose calls fail soon if they wait.
async fn impatient(url: &str) -> PostgresBroker {
    let options = common::options(url);
    let options = options
        .response_timeout(Duration::from_secs(2))
        .retry_for(Duration::ZERO);
    PostgresBroker::connect(options).await.expect("a broker")
}

#[tokio::test]
async fn a_locked_lease_delays_no_other_lease_and_is_not_lost() {
    let shop = Shop::open().await;
    let broker = &shop.broker;
    for task in ["one", "two", "three"] {
        common::enqueue(broker, task).await.expect("accepted");
    }
    let leased = common::lease(broker, 3).await.expect("leased");
    let leases: Vec<_> = leased.iter().map(|leased| leased.lease()).collect();
    let lock = "begin; select from lease where turn = (select min(turn) from lease) for update";
    shop.program.batch_execute(lock).await.expect("locked");
    let extended = broker.extend(&leases, 2 * common::LIMIT).await;
    let extended = all_of(extended).expect("extended");
    assert_eq!(extended, [Extended::Yes; 3]);
    let sql = "select count(*) from lease where until > (extract(epoch from now()) * 1000)::bigint + 90000";
    let later = shop.program.query_one(sql, &[]).await.expect("a row");
    assert_eq!(later.get::<_, i64>(0), 2, "the others were extended");
    for leased in &leased[1..] {
        let settled = common::complete(broker, leased).await;
        assert_eq!(settled.expect("an outcome"), Settled::Recorded);
    }
    shop.everything_works().await;
    shop.program
        .batch_execute("rollback")
        .await
        .expect("an end");
    let settled = common::complete(broker, &leased[0]).await;
    assert_eq!(settled.expect("an outcome"), Settled::Recorded);
}

#[tokio::test]
async fn a_locked_lease_that_has_expired_delays_no_other_reclaim() {
    let shop = Shop::open().await;
    let broker = &shop.broker;
    for task in ["one", "two", "three"] {
        common::enqueue(broker, task).await.expect("accepted");
    }
    let leased = common::lease(broker, 3).await.expect("leased");
    let expire = "update lease set until = 1";
    shop.program.batch_execute(expire).await.expect("expired");
    let lock = "begin; select from lease where turn = (select min(turn) from lease) for update";
    shop.program.batch_execute(lock).await.expect("locked");
    let settlements: Vec<_> = leased
        .iter()
        .map(|leased| {
            let mut reclaimed = leased.clone().settle(Outcome::Release);
            reclaimed.only_if_expired = true;
            reclaimed
        })
        .collect();
    let settled = all_of(broker.settle(&settlements).await).expect("outcomes");
    assert_eq!(
        settled,
        [Settled::Stale, Settled::Recorded, Settled::Recorded]
    );
    // Another server may be reclaiming it.
    let extended = broker.extend(&[leased[0].lease()], common::LIMIT).await;
    assert_eq!(all_of(extended).expect("a call"), [Extended::Lost]);
    shop.program
        .batch_execute("rollback")
        .await
        .expect("an end");
    let settled = all_of(broker.settle(&settlements[..1]).await).expect("outcomes");
    assert_eq!(settled, [Settled::Recorded]);
}

/// The handler of the first task completes it in a transaction that stays open.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_completes_a_task_and_stays_open_delays_no_other_task() {
    const LEASE: Duration = Duration::from_secs(3);
    let shop = Shop::open().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let (opened, url) = (Arc::clone(&gate), shop.url.clone());
    let count = move |task: Payload<Count>, ctx: Context| {
        let (started, gate, url) = (started.clone(), Arc::clone(&gate), url.clone());
        async move {
            let mut db = Postgres::connect(&url).await;
            let tx = db.transaction().await.map_err(TaskError::retry)?;
            if task.0.0 == 0 {
                ctx.complete_in(&tx, &()).await.map_err(TaskError::retry)?;
            }
            started.send((task.0.0, ctx.attempt())).expect("a test");
            if task.0.0 < 2 {
                gate.acquire().await.expect("open").forget();
            }
            tx.commit().await.map_err(TaskError::retry)
        }
    };
    let server = Server::builder(shop.broker.clone())
        .queue("default", 1)
        .concurrency(4)
        .lease(LEASE)
        .process(count);
    let server = server.start().await.expect("a server");
    for n in 0..2 {
        shop.producer.enqueue(Count(n)).await.expect("enqueued");
        assert_eq!(starts.recv().await, Some((n, 1)));
    }
    let until = "select max(until) from lease";
    let until = async || {
        shop.program
            .query_one(until, &[])
            .await
            .expect("a row")
            .get::<_, i64>(0)
    };
    // The lease of the other running task is extended, and tasks start and are completed.
    let before = until().await;
    for n in 2..10 {
        let handle = shop.producer.enqueue(Count(n)).await.expect("enqueued");
        assert_eq!(starts.recv().await, Some((n, 1)));
        handle.result().await.expect("completed");
    }
    eventually("a lease is extended", async || until().await > before).await;
    opened.add_permits(2);
    let queues = [Name::from("default")];
    eventually("all are completed", async || {
        let stats = shop.broker.stats(&queues).await;
        stats.is_ok_and(|stats| stats[0].succeeded == 10)
    })
    .await;
    server.shutdown().await.expect("ended in order");
    assert_eq!(starts.recv().await, None, "no task runs again");
}

#[tokio::test]
async fn a_unique_lock_in_an_open_transaction_delays_no_other_task() {
    let shop = Shop::open().await;
    let mut db = Postgres::connect(&shop.url).await;
    let tx = db.transaction().await.expect("begun");
    let held = shop.producer.enqueue(Once(0)).queue("q");
    let held = held.prepare().expect("prepared");
    shop.broker.enqueue_in(&tx, held).await.expect("accepted");
    for key in 1..4 {
        let handle = shop
            .producer
            .enqueue(Once(key))
            .queue("q")
            .await
            .expect("accepted");
        let deleted = shop.broker.delete(&[handle.task_ref().clone()]).await;
        assert_eq!(deleted.expect("a call"), [true]);
    }
    shop.everything_works().await;
    tx.commit().await.expect("committed");
    assert_eq!(common::drain(&shop.broker).await.len(), 1);
}

/// A refusal must not lock the unique lock of the task that holds it.
#[tokio::test]
async fn a_task_refused_in_an_open_transaction_does_not_delay_the_one_that_holds_its_lock() {
    let shop = Shop::open().await;
    let broker = &shop.broker;
    for until in [UniqueUntil::Start, UniqueUntil::Success] {
        let key = UniqueKey::new("key");
        let unique = |id: &str| {
            let mut task = common::task_of(id);
            let lock = UniqueLock::new(key.clone(), until, Duration::from_secs(3_600));
            task.envelope.unique = Some(Box::new(lock));
            task
        };
        let accepted = Store::enqueue(broker, vec![unique("holder")]).await;
        accepted.expect("a call").remove(0).expect("accepted");
        let mut db = Postgres::connect(&shop.url).await;
        let tx = db.transaction().await.expect("begun");
        let refused = shop.producer.enqueue(Once(0)).queue("q").unique_key("key");
        let refused = broker
            .enqueue_in(&tx, refused.prepare().expect("prepared"))
            .await;
        refused.expect_err("the lock is held");
        let leased = common::lease(broker, 1).await.expect("leased");
        let settled = common::complete(broker, &leased[0]).await;
        assert_eq!(settled.expect("an outcome"), Settled::Recorded);
        // And the lock is free.
        let accepted = Store::enqueue(broker, vec![unique("next")]).await;
        accepted.expect("a call").remove(0).expect("accepted");
        let deleted = broker.delete(&[common::task_ref("next")]).await;
        assert_eq!(deleted.expect("a call"), [true]);
        shop.everything_works().await;
        tx.rollback().await.expect("an end");
    }
}

/// An expired lock that an open transaction takes still names its former holder for all others.
#[tokio::test]
async fn an_expired_lock_that_an_open_transaction_takes_delays_nobody() {
    let server = Postgres::shared().await;
    let url = server.new_schema();
    let clock = TestClock::default();
    let options = common::options(&url)
        .clock(clock.clone())
        .response_timeout(Duration::from_secs(2))
        .retry_for(Duration::ZERO);
    let broker = PostgresBroker::connect(options).await.expect("a broker");
    for until in [UniqueUntil::Start, UniqueUntil::Success] {
        let mut tasks = Vec::new();
        for id in ["one", "two", "three"] {
            let mut task = common::task_of(id);
            let lock = UniqueLock::new(UniqueKey::new(id), until, Duration::from_secs(10));
            task.envelope.unique = Some(Box::new(lock));
            tasks.push(task);
        }
        let accepted = Store::enqueue(&broker, tasks).await.expect("a call");
        assert!(accepted.iter().all(Result::is_ok));
        clock.advance(Duration::from_secs(60));
        let program = Postgres::connect(&url).await;
        let take = "begin; select take_lock(queue, key, '\\x00', until * 2, until + 1) from lock";
        program.batch_execute(take).await.expect("taken");
        let leased = common::lease(&broker, 3).await.expect("leased");
        assert_eq!(common::names(&leased), ["one", "two", "three"]);
        let outcomes = [
            Outcome::Complete { result: None },
            Outcome::Archive,
            Outcome::Drop,
        ];
        let settlements: Vec<_> = leased
            .into_iter()
            .zip(outcomes)
            .map(|(leased, outcome)| leased.settle(outcome))
            .collect();
        let settled = all_of(broker.settle(&settlements).await).expect("outcomes");
        assert_eq!(settled, [Settled::Recorded; 3]);
        let queues = ["q".into()];
        all_of(broker.trim(&queues, Keep::default(), 100).await).expect("trimmed");
        program.batch_execute("rollback").await.expect("an end");
        all_of(broker.trim(&queues, Keep::default(), 100).await).expect("trimmed");
        let left = program.query_one("select count(*) from lock", &[]).await;
        assert_eq!(left.expect("a row").get::<_, i64>(0), 0);
        let deleted = Store::delete_queue(&broker, &"q".into(), true).await;
        assert!(deleted.expect("a result"));
    }
}

#[tokio::test]
async fn a_group_that_an_open_transaction_has_joined_delays_no_other_task() {
    let shop = Shop::open().await;
    let limits = Aggregate::default();
    let mut db = Postgres::connect(&shop.url).await;
    for is_new in [true, false] {
        let tx = db.transaction().await.expect("begun");
        let joins = shop.producer.enqueue(Count(0)).queue("q").aggregate(limits);
        let task = joins.prepare().expect("prepared");
        shop.broker.enqueue_in(&tx, task).await.expect("accepted");
        let other = shop.producer.enqueue(Count(1)).queue("q").aggregate(limits);
        let other = other.group(if is_new { "a" } else { "b" }).await;
        other.expect("another group");
        let (queues, events) = ([Name::from("q")], [Name::from("count")]);
        shop.broker
            .due_groups(&queues, &events, 10)
            .await
            .expect("looked for");
        shop.broker.groups(&queues[0], 10).await.expect("listed");
        shop.everything_works().await;
        tx.commit().await.expect("committed");
    }
    let stats = shop.broker.stats(&["q".into()]).await.expect("figures");
    assert_eq!(stats[0].count(TaskState::Aggregating), 4);
}

#[tokio::test]
async fn a_new_queue_in_an_open_transaction_delays_nobody_and_is_not_listed() {
    let shop = Shop::open().await;
    let mut db = Postgres::connect(&shop.url).await;
    for commits in [false, true] {
        let name = if commits { "new" } else { "q" };
        let tx = db.transaction().await.expect("begun");
        let task = shop.producer.enqueue(Count(0)).queue(name);
        let task = task.prepare().expect("prepared");
        shop.broker.enqueue_in(&tx, task).await.expect("accepted");
        assert!(
            !shop
                .broker
                .queues()
                .await
                .expect("names")
                .contains(&name.into())
        );
        let other = shop.producer.enqueue(Count(1)).queue(name).await;
        other.expect("it does not wait");
        let other = impatient(&shop.url).await;
        let other = Producer::new(other).enqueue(Count(2)).queue(name).await;
        other.expect("it does not wait");
        match commits {
            true => tx.commit().await.expect("committed"),
            false => tx.rollback().await.expect("rolled back"),
        }
        let stats = shop.broker.stats(&[name.into()]).await.expect("figures");
        assert_eq!(stats[0].total(), 2 + u64::from(commits));
        // One that is unused after the rollback.
        let tx = db.transaction().await.expect("begun");
        let task = shop.producer.enqueue(Count(0)).queue(format!("un{name}"));
        let task = task.prepare().expect("prepared");
        shop.broker.enqueue_in(&tx, task).await.expect("accepted");
        tx.rollback().await.expect("rolled back");
        let listed = shop.broker.queues().await.expect("names");
        assert!(!listed.contains(&format!("un{name}").into()), "{listed:?}");
    }
}

#[tokio::test]
async fn advisory_locks_of_other_applications_are_others() {
    let shop = Shop::open().await;
    let locks = "select pg_advisory_lock(n), pg_advisory_lock(0, n), pg_advisory_lock(n, 0) \
         from generate_series(0, 200) n";
    shop.program.batch_execute(locks).await.expect("locked");
    shop.everything_works().await;
    let once = shop.producer.enqueue(Once(0)).queue("q").await;
    once.expect("accepted");
    let deleted = Store::delete_queue(&shop.broker, &"q".into(), true).await;
    assert!(deleted.expect("a result"));
}
