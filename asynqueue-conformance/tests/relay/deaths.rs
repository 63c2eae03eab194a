//! A relay that dies at any of its calls loses and doubles nothing, even if each task has ended before it is sent again.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    gate::{Life, Moment},
    stage::{QUEUES, Stage, task, unique},
};

/// No relay needs more calls than this for the entries of a stage.
const CALLS: usize = 200;

const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Amid, Moment::After];

/// Two transactions with tasks of two queues. `bad` is rejected, `again` has the id of an earlier task, and `second` is
/// refused while `first` has their lock.
fn commit(stage: &Stage) {
    stage.faults.rejected.lock().insert("bad".into());
    let first = [
        task("a", "1"),
        task("b", "2"),
        unique("a", "first", "key"),
        task("a", "bad"),
        task("a", "3"),
    ];
    stage.outbox.commit(first);
    let second = [
        unique("a", "second", "key"),
        task("b", "4"),
        task("a", "1"),
        task("a", "5"),
    ];
    stage.outbox.commit(second);
}

/// Each task was accepted once and in order. A refused one may have been accepted later, once its conflict was over.
fn assert_relayed(stage: &Stage, at: &str) {
    for (queue, always, sometimes) in [
        ("a", &["1", "first", "3", "5"][..], &["second", "1"][..]),
        ("b", &["2", "4"], &[]),
    ] {
        let accepted = stage.accepted(queue);
        let mut order = accepted.iter();
        for id in always {
            assert!(
                order.any(|other| other == id),
                "{at}: {accepted:?} of {queue}"
            );
        }
        let mut all: Vec<_> = always.iter().chain(sometimes).collect();
        for id in &accepted {
            let place = all.iter().position(|other| *other == id);
            let place = place.unwrap_or_else(|| panic!("{at}: {id} twice in {accepted:?}"));
            all.remove(place);
        }
    }
}

async fn assert_failed(stage: &Stage, at: &str) {
    let reason = "unexpected response from the broker: task bad is too large";
    let expected = [("bad".to_owned(), reason.to_owned())];
    assert_eq!(stage.failed().await, expected, "{at}");
}

#[tokio::test(start_paused = true)]
async fn a_relay_that_dies_at_any_call_is_continued_exactly() {
    for moment in MOMENTS {
        for last in 0..CALLS {
            let at = format!("{moment:?} call {last}");
            let stage = Stage::new();
            commit(&stage);
            let life = Life::until(last, moment);
            stage.run(&life).await;
            // Ids and locks are free again: only the numbers are left.
            stage.work().await;
            if !life.is_over() {
                assert!(last > 8, "{at}: the relay makes more calls");
                assert_relayed(&stage, &at);
                break;
            }
            stage.clock.advance(Duration::from_secs(11));
            stage.run(&Life::endless()).await;
            assert_eq!(stage.waiting().await, 0, "{at}");
            assert_relayed(&stage, &at);
            assert_failed(&stage, &at).await;
            assert!(last + 1 < CALLS, "more calls than expected");
        }
    }
}

/// The next relay dies one call later than the one before.
#[tokio::test(start_paused = true)]
async fn relays_that_die_one_after_another_finish_exactly() {
    for moment in MOMENTS {
        let stage = Stage::new();
        commit(&stage);
        for last in 0..CALLS {
            let life = Life::until(last, moment);
            stage.run(&life).await;
            stage.work().await;
            stage.clock.advance(Duration::from_secs(11));
            if stage.waiting().await == 0 {
                break;
            }
        }
        let at = format!("{moment:?}");
        assert_eq!(stage.waiting().await, 0, "{at}");
        assert_relayed(&stage, &at);
        assert_failed(&stage, &at).await;
    }
}

/// It has lost its turn, and the other one has sent the same entries, when it continues.
#[tokio::test(start_paused = true)]
async fn a_relay_that_was_suspended_at_any_call_sends_nothing_twice() {
    for last in 0..CALLS {
        let at = format!("suspended at call {last}");
        let stage = Stage::new();
        commit(&stage);
        let life = Life::until(last, Moment::Asleep);
        let suspended = stage.relay(&life).run(std::future::pending());
        let test = async {
            let is_over = async || life.is_over() || stage.waiting().await == 0;
            crate::stage::until("it sleeps", is_over).await;
            stage.clock.advance(Duration::from_secs(11));
            if life.is_over() {
                stage.run(&Life::endless()).await;
            }
            stage.work().await;
            life.wake();
            // Until it has found out.
            tokio::time::sleep(Duration::from_secs(20)).await;
        };
        crate::stage::beside(suspended, test).await;
        assert_relayed(&stage, &at);
        assert_failed(&stage, &at).await;
        if !life.is_over() {
            break;
        }
    }
}

/// A relay is suspended, a second one takes over and dies at one of its calls, and the first one continues.
#[tokio::test(start_paused = true)]
async fn a_suspended_relay_continues_after_its_successor_has_died() {
    for (first, second) in (0..12).flat_map(|first| (0..12).map(move |second| (first, second))) {
        let at = format!("suspended at call {first}, dead after call {second}");
        let stage = Stage::new();
        commit(&stage);
        let life = Life::until(first, Moment::Asleep);
        let suspended = stage.relay(&life).run(std::future::pending());
        let test = async {
            let is_over = async || life.is_over() || stage.waiting().await == 0;
            crate::stage::until("it sleeps", is_over).await;
            stage.clock.advance(Duration::from_secs(11));
            stage.run(&Life::until(second, Moment::After)).await;
            stage.work().await;
            stage.clock.advance(Duration::from_secs(11));
            life.wake();
            crate::stage::until("all is relayed", async || stage.waiting().await == 0).await;
        };
        crate::stage::beside(suspended, test).await;
        assert_relayed(&stage, &at);
        assert_failed(&stage, &at).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_relay_leaves_its_turn_to_the_next() {
    let stage = Stage::new();
    stage.outbox.commit([task("a", "1")]);
    let relay = stage.relay(&Life::endless()).start();
    let is_drained = async || stage.waiting().await == 0;
    crate::stage::until("the first relays", is_drained).await;
    relay.shutdown().await;
    stage.outbox.commit([task("a", "2")]);
    // The clock of the turn stands still.
    stage.run(&Life::endless()).await;
    let all: BTreeSet<_> = QUEUES
        .iter()
        .flat_map(|queue| stage.accepted(queue))
        .collect();
    assert_eq!(all, ["1", "2"].map(String::from).into());
}
