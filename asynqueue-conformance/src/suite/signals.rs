//! Waking servers.

use std::time::Duration;

use asynqueue_core::{
    broker::{Fire, Outcome, ScheduleEntry, Signal, Signals, Tick, all_of},
    task::{Name, TaskRef, Timestamp},
};
use futures_util::{FutureExt, StreamExt};

use super::{
    Harness,
    fixture::{Fixture, QUEUE, secs, task, task_in, task_ref, tasks},
};

/// How long a signal may take to arrive.
const PATIENCE: Duration = Duration::from_secs(10);

async fn listen(f: &Fixture<'_>) -> Signals {
    f.broker.signals(&[QUEUE.into()]).await.unwrap()
}

async fn next(signals: &mut Signals) -> Signal {
    tokio::time::timeout(PATIENCE, signals.next())
        .await
        .expect("a signal in time")
        .expect("the stream continues")
}

fn pending() -> Signal {
    Signal::Pending(QUEUE.into())
}

/// Checks that only `expected` was signalled, with a last signal that is certain to arrive.
async fn assert_signalled(f: &Fixture<'_>, signals: &mut Signals, expected: &[Signal]) {
    let mut heard = Vec::new();
    f.enqueue([task("last")]).await;
    let last = f
        .lease(1_000)
        .await
        .into_iter()
        .find(|leased| leased.envelope.id.as_str() == "last")
        .unwrap();
    f.broker
        .cancel(&[task_ref("last")], "only for its signal")
        .await
        .unwrap();
    f.settle(&last, Outcome::Drop).await;
    loop {
        match next(signals).await {
            Signal::Cancel(task) if task == task_ref("last") => break,
            signal => heard.push(signal),
        }
    }
    assert_eq!(heard, expected);
}

/// A queue that already has tasks needs no signal: its workers are still running.
pub async fn the_first_pending_task_of_an_empty_queue_is_signalled_once(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut signals = listen(&f).await;
    f.enqueue(tasks(["a", "b"])).await;
    f.enqueue(tasks(["c"])).await;
    // The last task is also added to a queue with tasks.
    assert_signalled(&f, &mut signals, &[pending()]).await;
    f.enqueue(tasks(["d"])).await;
    assert_eq!(next(&mut signals).await, pending());
}

/// Every way for a queue to get a pending task.
pub async fn forwarding_releasing_and_running_now_send_signals(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["a"])).await;
    let leased = f.lease_one().await;
    let mut signals = listen(&f).await;
    f.settle(&leased, Outcome::Release).await;
    assert_eq!(next(&mut signals).await, pending());
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(0) }).await;
    assert_eq!(next(&mut signals).await, pending());
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Retry { delay: secs(5) }).await;
    assert!(matches!(next(&mut signals).await, Signal::Due(..)));
    f.advance(secs(10)).await;
    all_of(f.broker.forward(&[QUEUE.into()], 10).await).unwrap();
    assert_eq!(next(&mut signals).await, pending());
    let leased = f.lease_one().await;
    f.fail(&leased, Outcome::Archive).await;
    f.broker.run_now(&[task_ref("a")]).await.unwrap();
    assert_eq!(next(&mut signals).await, pending());
}

/// Tasks that arrived in the meantime are waiting.
pub async fn resuming_a_queue_with_tasks_is_signalled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.broker.set_paused(&[QUEUE.into()], true).await.unwrap();
    f.enqueue(tasks(["a"])).await;
    let mut signals = listen(&f).await;
    f.broker.set_paused(&[QUEUE.into()], false).await.unwrap();
    assert_eq!(next(&mut signals).await, pending());
}

/// A server can sleep until then.
pub async fn a_task_due_before_all_others_is_signalled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut signals = listen(&f).await;
    f.enqueue_after(task("a"), secs(100)).await;
    f.enqueue_after(task("later"), secs(200)).await;
    f.enqueue_after(task("earlier"), secs(50)).await;
    for name in ["a", "earlier"] {
        let due = f.info(name).await.unwrap().at.unwrap();
        assert_eq!(
            next(&mut signals).await,
            Signal::Due(QUEUE.into(), due),
            "{name}"
        );
    }
}

/// A server is woken only for its own queues.
pub async fn signals_of_other_queues_are_not_received(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut signals = listen(&f).await;
    f.enqueue([task_in("other", "a")]).await;
    f.lease_from(&[("other", 1)], 1).await;
    f.broker
        .cancel(&[TaskRef::new("other", super::fixture::id("a"))], "no")
        .await
        .unwrap();
    assert_signalled(&f, &mut signals, &[pending()]).await;
    assert_eq!(signals.next().now_or_never(), None);
}

/// Every way for a task to wait for a time, compared with all waiting tasks.
pub async fn retries_and_snoozes_signal_when_they_are_due_first(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["snoozed", "retried", "later"])).await;
    let leased = f.lease(3).await;
    let mut signals = listen(&f).await;
    f.settle(&leased[0], Outcome::Snooze { delay: secs(100) })
        .await;
    f.fail(&leased[1], Outcome::Retry { delay: secs(50) }).await;
    f.fail(&leased[2], Outcome::Retry { delay: secs(75) }).await;
    for name in ["snoozed", "retried"] {
        let due = f.info(name).await.unwrap().at.unwrap();
        assert_eq!(next(&mut signals).await, Signal::Due(QUEUE.into(), due));
    }
    assert_signalled(&f, &mut signals, &[pending()]).await;
}

/// Deleted tasks do not count.
pub async fn a_task_due_before_the_remaining_ones_is_signalled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue_after(task("gone"), secs(50)).await;
    f.enqueue_after(task("left"), secs(200)).await;
    f.broker.delete(&[task_ref("gone")]).await.unwrap();
    let mut signals = listen(&f).await;
    f.enqueue_after(task("a"), secs(100)).await;
    let due = f.info("a").await.unwrap().at.unwrap();
    assert_eq!(next(&mut signals).await, Signal::Due(QUEUE.into(), due));
}

/// A scheduler wakes servers as a producer does.
pub async fn a_tick_that_fires_is_signalled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let tick = Timestamp::from_millis(1_000);
    let mut entry = ScheduleEntry::new("entry", String::new(), task("template"));
    entry.next = Some(tick);
    f.broker.put_schedules(vec![entry]).await.unwrap();
    let mut signals = listen(&f).await;
    let fire = Fire {
        name: "entry".into(),
        tick,
        what: Tick::Enqueue(task("a"), Timestamp::default()),
        next: None,
    };
    f.broker.fire(vec![fire]).await.unwrap()[0].clone().unwrap();
    assert_eq!(next(&mut signals).await, pending());
}

/// Every server is notified, and one that has stopped does not affect the others.
pub async fn all_listeners_receive_a_signal(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut listeners = [listen(&f).await, listen(&f).await];
    drop(listen(&f).await);
    f.enqueue(tasks(["a"])).await;
    for signals in &mut listeners {
        assert_eq!(next(signals).await, pending());
    }
}

/// A server has one stream for all its queues.
pub async fn a_listener_can_have_several_queues(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let queues = ["a", "b"].map(Name::from);
    let mut signals = f.broker.signals(&queues).await.unwrap();
    for queue in ["b", "a"] {
        f.enqueue([task_in(queue, "task")]).await;
        assert_eq!(next(&mut signals).await, Signal::Pending(queue.into()));
    }
}

/// By no way for a task to become pending: the queue's workers are still running.
pub async fn a_queue_with_pending_tasks_is_not_signalled_again(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.enqueue(tasks(["released", "retried", "pending"])).await;
    f.enqueue_after(task("due"), secs(10)).await;
    f.enqueue_after(task("run-now"), secs(500)).await;
    let leased = f.lease(2).await;
    f.advance(secs(20)).await;
    let mut signals = listen(&f).await;
    f.settle(&leased[0], Outcome::Release).await;
    f.fail(&leased[1], Outcome::Retry { delay: secs(0) }).await;
    all_of(f.broker.forward(&[QUEUE.into()], 10).await).unwrap();
    f.broker.run_now(&[task_ref("run-now")]).await.unwrap();
    assert_signalled(&f, &mut signals, &[]).await;
}

/// There is nothing to wake a server for.
pub async fn resuming_is_signalled_only_if_it_changes_something(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    let mut signals = listen(&f).await;
    let queue = [QUEUE.into()];
    f.broker.set_paused(&queue, true).await.unwrap();
    f.broker.set_paused(&queue, false).await.unwrap();
    f.enqueue(tasks(["a"])).await;
    f.broker.set_paused(&queue, false).await.unwrap();
    // The one signal is that of the task.
    assert_signalled(&f, &mut signals, &[pending()]).await;
}

/// No worker has them.
pub async fn cancelling_waiting_tasks_is_not_signalled(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    f.fill().await;
    let mut signals = listen(&f).await;
    let waiting = ["scheduled", "retry", "pending", "archived", "completed"];
    f.broker
        .cancel(&waiting.map(task_ref), "not needed")
        .await
        .unwrap();
    assert_signalled(&f, &mut signals, &[pending()]).await;
}
