//! A process that dies at any of its calls loses and doubles nothing: the next one finishes the move.

use std::collections::BTreeMap;

use asynqueue_core::{
    broker::{Outcome, Space, Store},
    task::{Envelope, Name, TaskRef, TaskState},
};

use crate::{
    mortal::{Life, MOMENTS, Moment},
    stage::{Content, Stage, lease, secs, settle},
};

/// No move needs more calls than this for the contents of the stage.
const CALLS: usize = 1_000;

/// The content as it is at the target afterwards: entries are where they were, and the order of lists too.
async fn assert_moved(stage: &Stage, before: &Content, at: &str) {
    let (source, target) = (
        Content::of(stage.source()).await,
        Content::of(stage.target()).await,
    );
    assert_eq!(source.tasks, BTreeMap::new(), "{at}: tasks are left");
    assert_eq!(source.figures, BTreeMap::new(), "{at}: queues are left");
    assert_eq!(target.tasks, before.tasks, "{at}");
    assert_eq!(target.figures, before.figures, "{at}");
    assert_eq!(target.documents, before.documents, "{at}");
    let schedules = stage.source().documents(Space::Schedules).await;
    assert_eq!(schedules.unwrap(), [], "{at}");
    for store in [stage.source(), stage.target()] {
        let records = store.documents(Space::Moves).await.unwrap();
        assert_eq!(records, [], "{at}: records of the move are left");
    }
}

fn is_marked(envelope: &Envelope) -> bool {
    envelope.event == "asynqueue:moving"
}

/// Each task is stored, and at most one store can run it.
fn assert_safe(before: &Content, source: &Content, target: &Content, at: &str) {
    let mut copies: BTreeMap<TaskRef, (u32, u32)> = BTreeMap::new();
    for content in [source, target] {
        for ((_, state), tasks) in &content.tasks {
            for (envelope, _) in tasks {
                let (all, runnable) = copies.entry(envelope.task_ref()).or_default();
                *all += 1;
                *runnable += u32::from(!state.is_final() && !is_marked(envelope));
            }
        }
    }
    for task in before.ids() {
        let (all, runnable) = copies.get(&task).copied().unwrap_or_default();
        assert!(all >= 1, "{at}: task {task} is lost");
        assert!(runnable <= 1, "{at}: task {task} can run twice");
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_that_dies_at_any_call_is_resumed_exactly() {
    for moment in MOMENTS {
        for last in 0..CALLS {
            let at = format!("{moment:?} call {last}");
            let stage = Stage::new();
            stage.fill().await;
            let before = Content::of(stage.source()).await;
            let life = Life::until(last, moment);
            let ended = stage.mortal_transfer(&life).run().await;
            if !life.is_over() {
                assert!(ended.is_ok_and(|report| report.is_complete()), "{at}");
                assert!(last > 50, "the move is long");
                assert_moved(&stage, &before, &at).await;
                break;
            }
            let (source, target) = (
                Content::of(stage.source()).await,
                Content::of(stage.target()).await,
            );
            assert_safe(&before, &source, &target, &at);
            stage.clock.advance(secs(6));
            let report = stage.transfer().run().await.unwrap();
            assert!(report.is_complete(), "{at}: {report:?}");
            assert_moved(&stage, &before, &at).await;
            assert!(last + 1 < CALLS, "more calls than expected");
        }
    }
}

/// The second process dies too, at the call after the one of the first.
#[tokio::test(start_paused = true)]
async fn a_move_that_dies_again_and_again_is_finished() {
    for moment in MOMENTS {
        let stage = Stage::new();
        stage.fill().await;
        let before = Content::of(stage.source()).await;
        for last in 0..CALLS {
            let life = Life::until(last, moment);
            let ended = stage.mortal_transfer(&life).run().await;
            if !life.is_over() {
                assert!(ended.is_ok_and(|report| report.is_complete()));
                break;
            }
            stage.clock.advance(secs(6));
        }
        let at = format!("{moment:?}");
        assert_moved(&stage, &before, &at).await;
    }
}

/// Runs everything that can run in a store, and counts the runs.
async fn run_all(store: &dyn Store, runs: &mut BTreeMap<TaskRef, u32>) {
    for queue in store.queues().await.unwrap() {
        let queues = std::slice::from_ref(&queue);
        store.set_paused(queues, false).await.unwrap();
        loop {
            store.forward(queues, 1_000).await.unwrap();
            let leased = lease(store, &queue, 100).await;
            if leased.is_empty() {
                break;
            }
            for leased in leased {
                // A server releases a task whose event it has no handler for.
                assert!(!is_marked(&leased.envelope), "a marked task was leased");
                *runs.entry(leased.envelope.task_ref()).or_default() += 1;
                settle(store, leased.settle(Outcome::Complete { result: None })).await;
            }
        }
    }
}

/// Servers work on both stores while no move runs: what one has finished does not run again.
#[tokio::test(start_paused = true)]
async fn no_task_runs_twice_beside_a_move_that_dies() {
    for moment in MOMENTS {
        for last in 0..CALLS {
            let at = format!("{moment:?} call {last}");
            let stage = Stage::new();
            stage.fill().await;
            let before = Content::of(stage.source()).await;
            let life = Life::until(last, moment);
            let ended = stage.mortal_transfer(&life).run().await;
            if !life.is_over() {
                assert!(ended.is_ok(), "{at}");
                break;
            }
            let mut runs = BTreeMap::new();
            // Everything is due, but for the tasks that a move has marked.
            stage.clock.advance(secs(100_000));
            for store in [stage.source(), stage.target()] {
                run_all(store, &mut runs).await;
            }
            let report = stage.transfer().run().await.unwrap();
            assert!(report.is_complete(), "{at}: {report:?}");
            run_all(stage.target(), &mut runs).await;
            assert_eq!(runs, runs_of(&before), "{at}");
        }
    }
}

/// A process that is suspended for long continues after another one has finished the move, and after the tasks have
/// run.
#[tokio::test(start_paused = true)]
async fn a_process_that_wakes_after_the_move_doubles_nothing() {
    for last in 0..CALLS {
        let stage = Stage::new();
        stage.fill().await;
        let before = Content::of(stage.source()).await;
        let life = Life::until(last, Moment::Asleep);
        let transfer = stage.mortal_transfer(&life);
        let first = tokio::spawn(async move { transfer.run().await });
        // As far as it gets: nothing else of it waits.
        tokio::time::sleep(secs(1)).await;
        if first.is_finished() {
            assert!(first.await.unwrap().is_ok(), "call {last}");
            return;
        }
        stage.clock.advance(secs(6));
        let report = stage.transfer().run().await.unwrap();
        assert!(report.is_complete(), "call {last}: {report:?}");
        let mut runs = BTreeMap::new();
        stage.clock.advance(secs(100_000));
        run_all(stage.target(), &mut runs).await;
        life.wake();
        // It may find that the move is another process's, or nothing to do.
        let _ = first.await.unwrap();
        for store in [stage.source(), stage.target()] {
            run_all(store, &mut runs).await;
        }
        assert_eq!(runs, runs_of(&before), "call {last}");
    }
}

/// One run of each task that a server can lease at some time.
fn runs_of(before: &Content) -> BTreeMap<TaskRef, u32> {
    let is_waiting = |state: &TaskState| !state.is_final() && *state != TaskState::Aggregating;
    let tasks = before.tasks.iter();
    let tasks = tasks.filter(|((_, state), _)| is_waiting(state));
    let tasks = tasks.flat_map(|(_, tasks)| tasks);
    tasks
        .map(|(envelope, _)| (envelope.task_ref(), 1))
        .collect()
}

/// The target counts what the source has counted, whatever is counted between the attempts of a move.
#[tokio::test(start_paused = true)]
async fn attempts_that_are_counted_between_two_moves_are_added_once() {
    for last in 0..CALLS {
        let stage = Stage::new();
        stage.fill().await;
        let life = Life::until(last, Moment::After);
        let ended = stage.mortal_transfer(&life).run().await;
        if !life.is_over() {
            assert!(ended.is_ok());
            break;
        }
        stage.clock.advance(secs(6));
        let mut runs = BTreeMap::new();
        let queue = Name::from("empty");
        crate::stage::accept(stage.source(), vec![new("empty", "late")]).await;
        run_all(stage.source(), &mut runs).await;
        let ran = runs.values().sum::<u32>() as u64;
        stage.transfer().run().await.unwrap();
        let mut sum = 0;
        for queue in stage.target().queues().await.unwrap() {
            let stats = stage.target().stats(&[queue]).await.unwrap().remove(0);
            sum += stats.succeeded;
        }
        // One each by the stage in `q` and in `empty`.
        assert_eq!(sum, 2 + ran, "call {last}");
        let stats = stage.target().stats(&[queue]).await.unwrap().remove(0);
        assert_eq!(stats.succeeded, 2, "call {last}");
    }
}

fn new(queue: &str, name: &str) -> asynqueue_core::broker::NewTask {
    let task = crate::stage::task(queue, name);
    asynqueue_core::broker::NewTask::new(task, asynqueue_core::broker::When::Now)
}
