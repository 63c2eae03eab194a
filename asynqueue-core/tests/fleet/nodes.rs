//! What happens to the nodes of a fleet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::TaskState,
    testing::fleet::{Entry, Event, Fault, Fleet, Life, Report, Strike},
};

use super::{Work, server};

/// A fault of one node. Times are in milliseconds.
fn strike(fault: Fault, node: usize, at: u64, lasts: u64) -> Strike {
    let mut strike = Strike::new(fault);
    (strike.node, strike.at, strike.lasts) = (Some(node), at, lasts);
    strike
}

/// When matching events happened, in seconds.
fn times(report: &Report, is_it: impl Fn(&Entry) -> bool) -> Vec<u64> {
    let found = report.entries.iter().filter(|entry| is_it(entry));
    found.map(|entry| entry.at.as_secs()).collect()
}

/// Tasks end while the response to a lease request is in flight, and another queue has tasks too.
#[test]
fn a_server_that_waits_for_a_response_does_not_spin() {
    let mut slow = Strike::new(Fault::Slow);
    (slow.lasts, slow.percent) = (60_000, 30);
    Fleet::new(5)
        .servers(1, |life| {
            let server = server(life).concurrency(4);
            server.queue("left", 1).queue("right", 2)
        })
        .client(|life| async move {
            let producer = Producer::new(life.broker.clone());
            for n in 0..300 {
                let queue = ["left", "right"][n as usize % 2];
                let work = producer.enqueue(Work { millis: n % 50 });
                work.queue(queue).await.unwrap();
                life.pause(Duration::from_millis(10)).await;
            }
        })
        .strikes([slow])
        .run()
        .assert_kept();
}

/// One server, and a producer of a task that takes ten seconds, at one second.
fn one_task(strikes: impl IntoIterator<Item = Strike>) -> Fleet {
    Fleet::new(1)
        .servers(1, server)
        .client(|life| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let work = Work { millis: 10_000 };
            Producer::new(life.broker.clone())
                .enqueue(work)
                .await
                .unwrap();
        })
        .strikes(strikes)
}

#[test]
fn a_killed_node_does_nothing_until_its_next_life() {
    let report = one_task([strike(Fault::Kill, 0, 5_000, 20_000)]).run();
    report.assert_kept();
    let of_node = |entry: &Entry| entry.node == Some(0);
    let silent = times(&report, of_node);
    assert!(silent.iter().all(|at| *at <= 5 || *at >= 25), "{silent:?}");
    let began = times(&report, |entry| matches!(entry.event, Event::Began(..)));
    assert_eq!(began.len(), 2, "{began:?}");
}

#[test]
fn a_frozen_node_continues_where_it_was() {
    let report = one_task([strike(Fault::Freeze, 0, 5_000, 20_000)]).run();
    report.assert_kept();
    let done = times(&report, |entry| matches!(entry.event, Event::Done(..)));
    // It should have ended at 11 s, so its timer fires immediately.
    assert_eq!(done, [25]);
}

#[test]
fn a_restart_changes_the_build_and_releases_running_tasks() {
    let builds = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&builds);
    let report = Fleet::new(3)
        .servers(1, move |life: &Life| {
            seen.fetch_max(life.build, SeqCst);
            server(life).shutdown_timeout(Duration::ZERO)
        })
        .client(|life| async move {
            let work = Work { millis: 10_000 };
            Producer::new(life.broker.clone())
                .enqueue(work)
                .await
                .unwrap();
        })
        .strikes([strike(Fault::Restart, 0, 5_000, 100)])
        .run();
    report.assert_kept();
    assert_eq!(builds.load(SeqCst), 1);
    let began = report.entries.iter().filter_map(|entry| match entry.event {
        Event::Began(_, attempt) => Some(attempt),
        _ => None,
    });
    assert_eq!(
        began.collect::<Vec<_>>(),
        [1, 1],
        "a release does not count"
    );
}

/// Platforms kill a program 30 s after its signal, and an application still has its endpoints to stop.
#[test]
fn a_shutdown_with_the_default_timeouts_takes_26_seconds_while_a_handler_and_the_broker_hang() {
    let mut away = Strike::new(Fault::Away);
    (away.at, away.lasts) = (5_500, 120_000);
    let has_hung = Arc::new(AtomicUsize::new(0));
    let process = move |_: Payload<Work>, _: Context| {
        let hangs = has_hung.fetch_add(1, SeqCst) == 0;
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<_, TaskError>(())
        }
    };
    Fleet::new(4)
        .servers(1, move |life| {
            Server::builder(life.broker.clone()).process(process.clone())
        })
        .client(|life| async move {
            let producer = Producer::new(life.broker.clone());
            producer.enqueue(Work { millis: 0 }).await.unwrap();
        })
        .strikes([strike(Fault::Restart, 0, 6_000, 100), away])
        .shut_down_within(Duration::from_secs(26))
        .run()
        .assert_kept();
}

#[test]
fn a_blocking_handler_is_abandoned_and_dropped_only_when_it_stops_blocking() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let drops = Arc::clone(&dropped);
    let process = move |_: Payload<Work>, ctx: Context| {
        let drops = Arc::clone(&drops);
        async move {
            if ctx.attempt() == 1 {
                let _dropped = Dropped(drops);
                Life::block(Duration::from_secs(30)).await;
            }
            Ok::<_, TaskError>(())
        }
    };
    let report = Fleet::new(2)
        .servers(1, move |life| {
            Server::builder(life.broker.clone()).process(process.clone())
        })
        .client(|life| async move {
            let producer = Producer::new(life.broker.clone());
            let work = producer.enqueue(Work { millis: 0 });
            let work = work.timeout(Duration::from_secs(2));
            work.retention(Duration::from_secs(3_600)).await.unwrap();
        })
        .run();
    report.assert_kept();
    assert_eq!(dropped.load(SeqCst), 1);
    assert_eq!(report.tasks[0].state, TaskState::Completed);
    let done = times(&report, |entry| matches!(entry.event, Event::Done(..)));
    assert_eq!(
        done,
        [3, 30],
        "the second attempt, and the first when it is dropped"
    );
}

struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_running_client_is_requested_to_stop_and_an_ended_one_is_not_restarted() {
    let lives = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lives);
    Fleet::new(4)
        .client(move |_| {
            count.fetch_add(1, SeqCst);
            async {}
        })
        .client(|life| async move { life.stopping().await })
        .strikes([strike(Fault::Kill, 0, 1_000, 1_000)])
        .run()
        .assert_kept();
    assert_eq!(lives.load(SeqCst), 1);
}
