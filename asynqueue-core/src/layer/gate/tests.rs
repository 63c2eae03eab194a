//! Gates in front of a backlog, in paused time.

use std::collections::BTreeMap;

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};

use super::*;

/// Tasks that wait in a broker, by when they are due, which is the order in which they come to the gate.
struct Backlog {
    gate: Arc<Gate>,
    start: Instant,
    due: BTreeMap<(Instant, u64), (u64, Option<u64>)>,
    /// How often a task has come to the gate.
    comes: u64,
    add_back: u64,
    started: Vec<u64>,
    held: FuturesUnordered<BoxFuture<'static, (u64, u64, Option<Pass>)>>,
}

impl Backlog {
    fn new(gate: Arc<Gate>, tasks: u64) -> Self {
        let start = Instant::now();
        let due = (0..tasks).map(|task| ((start, task), (task, None)));
        Self {
            gate,
            start,
            due: due.collect(),
            comes: 0,
            add_back: 0,
            started: Vec::new(),
            held: FuturesUnordered::new(),
        }
    }

    fn add(&mut self, task: u64) {
        self.due.insert((Instant::now(), u64::MAX), (task, None));
    }

    fn add_back(&mut self, task: u64, place: u64, wait: Duration) {
        self.add_back += 1;
        let due = (Instant::now() + wait, 1_000_000 + self.add_back);
        self.due.insert(due, (task, Some(place)));
    }

    /// Takes the next task to the gate when it is due. Returns its pass when it is admitted.
    async fn next(&mut self) -> Option<Pass> {
        let due = self.due.first_key_value().map(|((due, _), _)| *due);
        let far = Instant::now() + Duration::from_secs(1 << 30);
        tokio::select! {
            biased;
            Some((task, place, pass)) = self.held.next() => {
                if pass.is_none() {
                    let wait = self.gate.send_back(place);
                    self.add_back(task, place, wait);
                } else {
                    self.started.push(task);
                }
                return pass;
            }
            () = tokio::time::sleep_until(due.unwrap_or(far)) => {}
        }
        let (_, (task, place)) = self.due.pop_first()?;
        self.comes += 1;
        let now = Timestamp::from_millis(self.start.elapsed().as_millis() as u64);
        match self.gate.enter(place, now) {
            Entry::Now(pass) => {
                self.started.push(task);
                return Some(pass);
            }
            Entry::Soon { place, turn } => {
                let held = async move { (task, place, turn.await) };
                self.held.push(Box::pin(held));
            }
            Entry::Later { place, wait } => self.add_back(task, place, wait),
        }
        None
    }
}

impl Backlog {
    /// The largest number of places by which a task started before its turn.
    fn most_early(&self) -> usize {
        let early = |(n, task): (usize, &u64)| (*task as usize).saturating_sub(n);
        let all = self.started.iter().enumerate().map(early);
        all.max().unwrap_or_default()
    }

    /// Takes the next task to the gate, and runs it in no time if it is admitted.
    async fn run(&mut self) {
        if let Some(mut pass) = self.next().await {
            pass.start();
        }
    }
}

fn rate(max: u32, period: Duration) -> Arc<Gate> {
    Gate::new(Limit::PerTime(Turns::new(max, period)))
}

fn at_once(max: usize) -> Arc<Gate> {
    Gate::new(Limit::AtOnce {
        permits: Arc::new(Semaphore::new(max)),
        max,
        pace: Pace::new(),
    })
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_rate_serves_a_backlog_in_order_at_full_rate_and_checks_each_task_a_few_times() {
    let mut backlog = Backlog::new(rate(1, SECOND), 2_000);
    while backlog.started.len() < 2_000 {
        backlog.run().await;
    }
    assert!(backlog.started.is_sorted());
    let took = backlog.start.elapsed();
    assert!(took < 2_010 * SECOND, "{took:?}");
    assert!(backlog.comes < 5 * 2_000, "{}", backlog.comes);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_tasks_over_one_a_second_are_checked_rarely() {
    let mut backlog = Backlog::new(rate(1, SECOND), 100_000);
    for _ in 0..100_000 {
        backlog.run().await;
    }
    let (before, start) = (backlog.comes, Instant::now());
    while start.elapsed() < 3600 * SECOND {
        backlog.run().await;
    }
    let each_second = (backlog.comes - before) / 3600;
    assert!(each_second < 50, "{each_second}");
    assert!(backlog.most_early() <= 10, "{}", backlog.most_early());
}

#[tokio::test(start_paused = true)]
async fn new_tasks_go_behind_the_line_and_an_unused_turn_is_not_lost() {
    let gate = rate(1, SECOND);
    let mut backlog = Backlog::new(Arc::clone(&gate), 10);
    for _ in 0..10 {
        backlog.run().await;
    }
    backlog.add(10);
    while backlog.started.len() < 5 {
        backlog.run().await;
    }
    assert_eq!(backlog.started, [0, 1, 2, 3, 4]);
    // All waiting tasks are deleted. The next ones must not wait for them forever.
    backlog.due.clear();
    tokio::time::advance(3 * SECOND).await;
    for n in 11..20 {
        backlog.add(n);
        backlog.run().await;
        tokio::time::advance(3 * SECOND).await;
    }
    assert_eq!(backlog.started[5..], Vec::from_iter(11..20));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_never_started_returns_its_turn() {
    let gate = rate(1, SECOND);
    let now = Timestamp::default();
    let Entry::Now(pass) = gate.enter(None, now) else {
        panic!("the first task was not admitted")
    };
    drop(pass);
    let Entry::Now(mut pass) = gate.enter(None, now) else {
        panic!("its turn is not free again")
    };
    pass.start();
    drop(pass);
    assert!(matches!(gate.enter(None, now), Entry::Later { .. }));
}

#[tokio::test(start_paused = true)]
async fn concurrent_attempts_serve_a_backlog_in_order_and_idle_little() {
    for (max, took, tasks) in [(1, 300, 200), (2, 20, 1_000), (4, 30_000, 100)] {
        let took = Duration::from_millis(took);
        let mut backlog = Backlog::new(at_once(max), tasks);
        while backlog.started.len() < tasks as usize {
            if let Some(mut pass) = backlog.next().await {
                pass.start();
                tokio::spawn(async move {
                    tokio::time::sleep(took).await;
                    drop(pass);
                });
            }
        }
        let whole = backlog.start.elapsed();
        let best = took * (tasks as u32) / max as u32;
        let figures = (whole, best, backlog.comes);
        assert!(whole < best * 3 / 2 + 5 * SECOND, "{max}: {figures:?}");
        let looks = 5.0 * tasks as f64 + 150.0 * whole.as_secs_f64();
        assert!((backlog.comes as f64) < looks, "{max}: {figures:?}");
        let most = backlog.most_early();
        // Only until it is known how long an attempt takes.
        assert!(most <= 20, "{max}: {most} early, {figures:?}");
    }
}
