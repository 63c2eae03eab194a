//! What a move does, leaves and refuses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::*,
    memory::MemoryBroker,
    task::{Name, TaskRef, TaskState},
    transfer::{Left, Transfer, TransferError},
};

use crate::stage::{LEASE, Stage, accept, lease, secs, settle, task};

fn new(queue: &str, name: &str) -> NewTask {
    NewTask::new(task(queue, name), When::Now)
}

async fn state(store: &dyn Store, queue: &str, name: &str) -> Option<TaskState> {
    let task = task(queue, name).task_ref();
    let found = store.tasks(&[task]).await.unwrap().remove(0);
    found.map(|task| task.state)
}

fn task_ref(queue: &str, name: &str) -> TaskRef {
    task(queue, name).task_ref()
}

/// Its worker settles it at the source, and the result moves.
#[tokio::test(start_paused = true)]
async fn an_active_task_is_waited_for() {
    let stage = Stage::new();
    accept(stage.source(), vec![new("q", "a")]).await;
    let leased = lease(stage.source(), "q", 1).await.remove(0);
    let transfer = tokio::spawn({
        let transfer = stage.transfer();
        async move { transfer.run().await }
    });
    tokio::time::sleep(secs(5)).await;
    assert!(!transfer.is_finished());
    assert_eq!(
        state(stage.source(), "q", "a").await,
        Some(TaskState::Active)
    );
    let delay = secs(60);
    let settled = settle(stage.source(), leased.settle(Outcome::Retry { delay })).await;
    assert_eq!(settled, Settled::Recorded);
    let report = transfer.await.unwrap().unwrap();
    assert!(report.is_complete());
    assert_eq!(report.queues, [("q".into(), 1)].into());
    assert_eq!(
        state(stage.target(), "q", "a").await,
        Some(TaskState::Retry)
    );
}

/// No server of the source is left that would reclaim it.
#[tokio::test(start_paused = true)]
async fn a_task_whose_lease_nobody_reclaims_is_left_and_reported() {
    let stage = Stage::new();
    accept(stage.source(), vec![new("q", "a"), new("q", "b")]).await;
    lease(stage.source(), "q", 1).await;
    let until = stage.source().now() + LEASE;
    stage.clock.advance(LEASE);
    let report = stage.transfer().run().await.unwrap();
    let left = Left::Active {
        task: task_ref("q", "a"),
        worker: "worker".into(),
        until,
    };
    assert_eq!(report.left, [left]);
    assert_eq!(
        report.left[0].to_string(),
        "task q/a: its lease by worker `worker` has expired and no server has reclaimed it: start a server at the source"
    );
    assert_eq!(report.tasks(), 1);
    // The move is over for now: another target may be chosen.
    let elsewhere = MemoryBroker::with_clock(stage.clock.clone());
    let other = Transfer::new(stage.source.clone(), elsewhere).patience(secs(0));
    assert_eq!(other.run().await.unwrap().left.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_whose_id_the_target_has_stays_where_and_as_it_was() {
    let stage = Stage::new();
    let later = NewTask::new(task("q", "a"), When::After(secs(60)));
    accept(stage.source(), vec![later, new("q", "b")]).await;
    accept(stage.target(), vec![new("q", "a")]).await;
    let before = stage.source().tasks(&[task_ref("q", "a")]).await.unwrap();
    let report = stage.transfer().run().await.unwrap();
    assert_eq!(report.left, [Left::Taken(task_ref("q", "a"))]);
    assert_eq!(
        report.left[0].to_string(),
        "task q/a: the target has another task with this id: delete one of the two"
    );
    assert_eq!(
        stage.source().tasks(&[task_ref("q", "a")]).await.unwrap(),
        before
    );
    assert_eq!(
        state(stage.target(), "q", "a").await,
        Some(TaskState::Pending)
    );
    assert_eq!(
        state(stage.target(), "q", "b").await,
        Some(TaskState::Pending)
    );
    let target: SharedBroker = stage.target.clone().into();
    target.delete(&[task_ref("q", "a")]).await.unwrap();
    assert!(stage.transfer().run().await.unwrap().is_complete());
    assert_eq!(
        state(stage.target(), "q", "a").await,
        Some(TaskState::Scheduled)
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_target_has_stays_as_it_was() {
    let stage = Stage::new();
    let (source, target): (SharedBroker, SharedBroker) =
        (stage.source.clone().into(), stage.target.clone().into());
    let entry = |every: &str| {
        let mut entry = ScheduleEntry::new("e", every, task("q", "t"));
        entry.next = Some(stage.source().now() + secs(60));
        entry
    };
    source
        .put_schedules(vec![entry("@every 1m")])
        .await
        .unwrap();
    target
        .put_schedules(vec![entry("@every 2m")])
        .await
        .unwrap();
    let report = stage.transfer().run().await.unwrap();
    assert_eq!(report.left, [Left::Entry("e".into())]);
    let kept = source.schedule(&"e".into()).await.unwrap();
    assert_eq!(kept, Some(entry("@every 1m")));
    assert_eq!(
        source.due_schedules(10).await.unwrap().next_due,
        entry("").next
    );
}

/// A scheduler of the source may be firing it.
#[tokio::test(start_paused = true)]
async fn a_due_entry_waits_for_its_scheduler() {
    let stage = Stage::new();
    let source: SharedBroker = stage.source.clone().into();
    let now = stage.source().now();
    let mut entry = ScheduleEntry::new("e", "@every 1m", task("q", "t"));
    entry.next = Some(now);
    source.put_schedules(vec![entry]).await.unwrap();
    let transfer = stage.transfer().patience(secs(20));
    let transfer = tokio::spawn(async move { transfer.run().await });
    tokio::time::sleep(secs(10)).await;
    assert!(!transfer.is_finished());
    let fire = Fire {
        name: "e".into(),
        tick: now,
        what: Tick::Enqueue(task("q", "tick"), now),
        next: Some(now + secs(60)),
    };
    assert_eq!(source.fire(vec![fire]).await.unwrap(), [Ok(true)]);
    let report = transfer.await.unwrap().unwrap();
    assert!(report.is_complete());
    let target: SharedBroker = stage.target.clone().into();
    let moved = target.schedule(&"e".into()).await.unwrap().unwrap();
    assert_eq!((moved.next, moved.paused), (Some(now + secs(60)), false));
    assert_eq!(
        state(stage.target(), "q", "tick").await,
        Some(TaskState::Pending)
    );
    assert_eq!(
        target.schedule_events(&"e".into(), 10).await.unwrap().len(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn only_the_selected_queues_are_moved() {
    let stage = Stage::new();
    accept(stage.source(), vec![new("a", "1"), new("b", "1")]).await;
    let source: SharedBroker = stage.source.clone().into();
    let entry = |name: &str, queue| {
        let mut entry = ScheduleEntry::new(name, "@every 1m", task(queue, "t"));
        entry.next = Some(stage.source().now() + secs(60));
        entry
    };
    let entries = vec![entry("of a", "a"), entry("of b", "b")];
    source.put_schedules(entries).await.unwrap();
    source
        .subscribe(vec![("x".into(), "y".into())])
        .await
        .unwrap();
    let selected = stage.transfer().queues(["a"]);
    let survey = selected.survey().await.unwrap();
    assert_eq!((survey.tasks(), survey.schedules), (1, 1));
    let report = selected.run().await.unwrap();
    assert_eq!(
        (report.tasks(), report.schedules, report.subscribers),
        (1, 1, 0)
    );
    assert_eq!(stage.source().queues().await.unwrap(), ["b"]);
    assert_eq!(stage.target().queues().await.unwrap(), ["a"]);
    assert_eq!(source.schedules().await.unwrap(), [entry("of b", "b")]);
}

#[tokio::test(start_paused = true)]
async fn a_survey_counts_and_changes_nothing() {
    let stage = Stage::new();
    stage.fill().await;
    let before = crate::stage::Content::of(stage.source()).await;
    let survey = stage.transfer().survey().await.unwrap();
    assert_eq!(survey.tasks(), before.ids().len() as u64);
    assert_eq!((survey.schedules, survey.subscribers), (2, 2));
    assert_eq!(crate::stage::Content::of(stage.source()).await, before);
    assert_eq!(stage.target().queues().await.unwrap(), [] as [Name; 0]);
    assert_eq!(stage.source().documents(Space::Moves).await.unwrap(), []);
}

/// Each batch is reported once it is at the target.
#[tokio::test(start_paused = true)]
async fn a_large_queue_is_moved_in_batches_and_in_order() {
    let stage = Stage::new();
    let names: Vec<_> = (0..1_234).map(|n| format!("{n:04}")).collect();
    accept(
        stage.source(),
        names.iter().map(|name| new("q", name)).collect(),
    )
    .await;
    let (sum, calls) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (summed, called) = (Arc::clone(&sum), Arc::clone(&calls));
    let transfer = stage.transfer().on_moved(move |_, count| {
        summed.fetch_add(count, SeqCst);
        called.fetch_add(1, SeqCst);
    });
    assert!(transfer.run().await.unwrap().is_complete());
    assert_eq!((sum.load(SeqCst), calls.load(SeqCst)), (1_234, 3));
    let leased = lease(stage.target(), "q", 2_000).await;
    let order: Vec<_> = leased
        .iter()
        .map(|task| task.envelope.id.to_string())
        .collect();
    assert_eq!(order, names);
}

#[tokio::test(start_paused = true)]
async fn a_store_is_not_moved_to_itself() {
    let stage = Stage::new();
    accept(stage.source(), vec![new("q", "a")]).await;
    let same = Transfer::new(stage.source.clone(), stage.source.clone());
    let refused = same.run().await.unwrap_err();
    assert!(matches!(refused, TransferError::SameStore), "{refused}");
    assert_eq!(
        refused.to_string(),
        "source and target are the same store: expected two different ones"
    );
    assert_eq!(stage.source().documents(Space::Moves).await.unwrap(), []);
    assert_eq!(
        state(stage.source(), "q", "a").await,
        Some(TaskState::Pending)
    );
}

/// Its tasks may be at the first target already.
#[tokio::test(start_paused = true)]
async fn an_unfinished_move_goes_to_no_other_target() {
    use crate::mortal::{Life, Moment};
    let stage = Stage::new();
    accept(stage.source(), vec![new("q", "a")]).await;
    let life = Life::until(20, Moment::After);
    stage.mortal_transfer(&life).run().await.unwrap_err();
    stage.clock.advance(secs(6));
    let elsewhere = MemoryBroker::with_clock(stage.clock.clone());
    let other = Transfer::new(stage.source.clone(), elsewhere);
    let refused = other.run().await.unwrap_err();
    assert!(matches!(refused, TransferError::Unfinished), "{refused}");
    assert!(stage.transfer().run().await.unwrap().is_complete());
}

/// They would free each other's copies.
#[tokio::test(start_paused = true)]
async fn a_second_process_does_not_join_a_move() {
    let stage = Stage::new();
    accept(stage.source(), vec![new("q", "a")]).await;
    let leased = lease(stage.source(), "q", 1).await.remove(0);
    let first = tokio::spawn({
        let transfer = stage.transfer();
        async move { transfer.run().await }
    });
    tokio::time::sleep(secs(1)).await;
    let second = tokio::spawn({
        let transfer = stage.transfer();
        async move { transfer.run().await }
    });
    // The first renews its claim in this time.
    for _ in 0..10 {
        stage.clock.advance(Duration::from_millis(600));
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let refused = second.await.unwrap().unwrap_err();
    assert!(matches!(refused, TransferError::Busy), "{refused}");
    settle(stage.source(), leased.settle(Outcome::Drop)).await;
    assert!(first.await.unwrap().unwrap().is_complete());
}

/// Producers may still write to the source.
#[tokio::test(start_paused = true)]
async fn tasks_that_arrive_during_a_move_are_moved_too() {
    let stage = Stage::new();
    accept(stage.source(), vec![new("q", "active")]).await;
    let leased = lease(stage.source(), "q", 1).await.remove(0);
    let transfer = tokio::spawn({
        let transfer = stage.transfer();
        async move { transfer.run().await }
    });
    tokio::time::sleep(secs(1)).await;
    accept(stage.source(), vec![new("q", "late"), new("new", "late")]).await;
    tokio::time::sleep(secs(1)).await;
    assert_eq!(
        state(stage.target(), "q", "late").await,
        Some(TaskState::Pending)
    );
    assert_eq!(
        state(stage.target(), "new", "late").await,
        Some(TaskState::Pending)
    );
    settle(stage.source(), leased.settle(Outcome::Drop)).await;
    assert!(transfer.await.unwrap().unwrap().is_complete());
    assert_eq!(stage.source().queues().await.unwrap(), [] as [Name; 0]);
}

/// The change counts, not the state that it was fenced in.
#[tokio::test(start_paused = true)]
async fn a_fenced_task_that_an_operator_changes_is_moved_as_it_is_then() {
    use crate::mortal::{Life, Moment};
    for last in 0..200 {
        let stage = Stage::new();
        accept(stage.source(), vec![new("q", "a"), new("q", "b")]).await;
        let life = Life::until(last, Moment::After);
        if stage.mortal_transfer(&life).run().await.is_ok() {
            return;
        }
        stage.clock.advance(secs(6));
        let source: SharedBroker = stage.source.clone().into();
        let (a, b) = (task_ref("q", "a"), task_ref("q", "b"));
        let cancelled = source.cancel(&[a], "not needed").await.unwrap();
        let is_there = cancelled == [CancelOutcome::Cancelled];
        source.run_now(&[b]).await.unwrap();
        assert!(stage.transfer().run().await.unwrap().is_complete());
        let expected = if is_there {
            TaskState::Archived
        } else {
            TaskState::Pending
        };
        assert_eq!(
            state(stage.target(), "q", "a").await,
            Some(expected),
            "{last}"
        );
        assert_eq!(
            state(stage.target(), "q", "b").await,
            Some(TaskState::Pending),
            "{last}"
        );
        let found = stage
            .target()
            .tasks(&[task_ref("q", "a"), task_ref("q", "b")])
            .await;
        for task in found.unwrap().into_iter().flatten() {
            assert_eq!(task.envelope.event, "event", "{last}: the mark is left");
            assert!(task.envelope.headers.is_empty(), "{last}");
        }
    }
}
