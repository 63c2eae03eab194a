//! The comparison with an undisturbed run.

use std::{
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use asynqueue_core::{
    broker::Conflict,
    process::{Payload, State, TaskError},
    producer::{EnqueueError, Producer},
    task::TaskId,
    testing::{CrashError, CrashKind, crash_everywhere, crash_point},
};
use asynqueue_macros::Task;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};

use crate::{CHARGE, Charge, World, found, place_of};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "count", output = u32, crate = asynqueue_core)]
struct Count;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "receipt", queue = "mail", crate = asynqueue_core)]
struct Receipt {
    cents: u64,
}

async fn send_receipt(task: Payload<Charge>, producer: Producer) -> Result<(), TaskError> {
    producer.enqueue(Receipt { cents: task.cents }).await?;
    crash_point().await;
    Ok(())
}

#[tokio::test]
async fn a_task_that_is_enqueued_twice_is_found() {
    let found = found(crash_everywhere(send_receipt, CHARGE).check(|()| ()).await);
    assert_eq!(place_of(found.crash), (CrashKind::Dropped, 1, 1, 1));
    let line = r#"receipt {"cents":5} in queue `mail`"#;
    let difference = &found.differences[0];
    assert_eq!(difference.what, "enqueued tasks");
    assert_eq!(
        (&*difference.expected, &difference.found),
        (line, &format!("{line}\n{line}"))
    );
}

#[tokio::test]
async fn enqueued_tasks_are_not_compared_on_request() {
    let test = crash_everywhere(send_receipt, CHARGE).ignore_enqueued();
    assert_eq!(test.check(|()| ()).await.unwrap().crash_points, 1);
}

#[tokio::test]
async fn a_task_with_a_custom_id_is_enqueued_once() {
    async fn send_once(
        task: Payload<Charge>,
        producer: Producer,
        id: TaskId,
    ) -> Result<(), TaskError> {
        let receipt = producer.enqueue(Receipt { cents: task.cents });
        match receipt.id(format!("receipt-{id}")).await {
            Ok(_) | Err(EnqueueError::Conflict(Conflict::Id { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        crash_point().await;
        Ok(())
    }
    let test = crash_everywhere(send_once, CHARGE).check(|()| ());
    assert_eq!(test.await.unwrap().crash_points, 1);
}

#[tokio::test]
async fn the_task_itself_blocks_duplicates_that_its_handler_enqueues() {
    let again = |task: Payload<Charge>, producer: Producer, id: TaskId| async move {
        let same = producer
            .enqueue(Charge { cents: task.cents })
            .id(id.as_str());
        let error = same.await.expect_err("it is there");
        assert!(matches!(error, EnqueueError::Conflict(_)), "{error}");
        Ok::<_, TaskError>(())
    };
    crash_everywhere(again, CHARGE)
        .check(|()| ())
        .await
        .unwrap();
    let unique = |task: Payload<Charge>, producer: Producer| async move {
        let same = producer.enqueue(Charge { cents: task.cents });
        let error = same
            .unique(Duration::from_secs(60))
            .await
            .expect_err("it is there");
        assert!(matches!(error, EnqueueError::Conflict(_)), "{error}");
        Ok::<_, TaskError>(())
    };
    let test = crash_everywhere(unique, CHARGE);
    let test = test.enqueued_with(|call| {
        call.unique(Duration::from_secs(3_600))
            .retention(Duration::from_secs(60))
    });
    test.check(|()| ()).await.unwrap();
}

#[tokio::test]
async fn an_output_that_differs_after_a_crash_is_found() {
    let count = |_: Payload<Count>, world: State<World>| async move {
        world.add_once("counted");
        world.add("again");
        Ok::<_, TaskError>(world.lines().len() as u32)
    };
    let test = || crash_everywhere(count, Count).with_state(World::default);
    let found = found(test().check(|_| ()).await);
    let difference = &found.differences[0];
    assert_eq!(
        (difference.what, &*difference.expected, &*difference.found),
        ("outcome", "completed with 2", "completed with 3")
    );
    test().ignore_output().check(|_| ()).await.unwrap();
}

#[tokio::test]
async fn a_check_that_panics_is_a_finding_after_a_crash_and_a_panic_otherwise() {
    let process = |_: Payload<Charge>, world: State<World>| async move {
        world.add("charged");
        Ok::<_, TaskError>(())
    };
    let test = || crash_everywhere(process, CHARGE).with_state(World::default);
    let once = |world: &World| assert_eq!(world.lines().len(), 1, "charged once");
    let found = found(test().check(once).await);
    let text = &found.differences[0].found;
    assert!(
        text.starts_with("the check panicked: ") && text.contains("charged once"),
        "{text}"
    );
    let twice = |world: &World| assert_eq!(world.lines().len(), 2);
    let result = AssertUnwindSafe(test().check(twice)).catch_unwind().await;
    assert!(result.is_err(), "the panic goes through");
}

#[tokio::test]
async fn a_check_may_await() {
    let test = crash_everywhere(send_receipt, CHARGE)
        .with_state(World::default)
        .ignore_enqueued();
    let lines = async |world: &World| {
        tokio::task::yield_now().await;
        world.lines()
    };
    assert_eq!(test.check_async(lines).await.unwrap().crash_points, 1);
}

#[tokio::test]
async fn undisturbed_runs_that_differ_are_reported() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let process = |_: Payload<Charge>| async {
        crash_point().await;
        Ok::<_, TaskError>(())
    };
    let test = crash_everywhere(process, CHARGE).with_state(|| NEXT.fetch_add(1, SeqCst));
    let error = test.check(|world| *world).await.unwrap_err();
    assert!(matches!(error, CrashError::Unsteady { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .contains("\n    expected: 0\n    found:    1\n"),
        "{error}"
    );
}

#[tokio::test]
async fn a_task_that_does_not_complete_undisturbed_is_refused_unless_it_may_fail() {
    let declined = |_: Payload<Charge>, world: State<World>, id: TaskId| async move {
        world.add_once(id.as_str());
        Err::<(), _>(TaskError::skip_retry("declined"))
    };
    let test = || crash_everywhere(declined, CHARGE).with_state(World::default);
    let check = |_: &World| panic!("nothing to look at");
    let error = test().check(check).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("it was archived: declined\n  attempts: 1 failed: declined\n"),
        "{text}"
    );
    test().may_fail().check(World::lines).await.unwrap();

    let revoked = |_: Payload<Charge>| async { Err::<(), _>(TaskError::revoke()) };
    let error = crash_everywhere(revoked, CHARGE)
        .check(|()| ())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("it was revoked"), "{error}");
}
