//! Where a handler crashes, and how it is reported.

use std::time::Duration;

use asynqueue_core::{
    process::{Payload, State, TaskError},
    task::TaskId,
    testing::{CrashError, CrashKind, crash_everywhere, crash_point},
};

use crate::{CHARGE, Charge, World, found, place_of};

/// Two awaits, an effect, and another await.
async fn charge_again(_: Payload<Charge>, world: State<World>) -> Result<(), TaskError> {
    crash_point().await;
    tokio::task::yield_now().await;
    world.add("charged");
    crash_point().await;
    Ok(())
}

#[tokio::test]
async fn an_effect_without_a_key_is_found_at_the_first_await_after_it() {
    let test = crash_everywhere(charge_again, CHARGE).with_state(World::default);
    let found = found(test.check(World::lines).await);
    assert_eq!(place_of(found.crash), (CrashKind::Dropped, 1, 3, 3));
    let place = found.crash.place.expect("a crash point");
    assert!(place.file().ends_with("points.rs"), "{place}");
    assert_eq!(found.attempts, ["1 dropped at await 3", "2 completed"]);
    let expected = format!(
        r#"the handler of `charge` is not idempotent
  crash:    attempt 1 was dropped at await 3 of 3, {place}, and the task was redelivered
  attempts: 1 dropped at await 3
            2 completed
  world
    expected: ["charged"]
    found:    ["charged", "charged"]
  Give each effect a key that is the same in all attempts, such as the task's id, and make the target of the effect refuse duplicates."#
    );
    assert_eq!(format!("{found:?}"), expected);
}

async fn charge_once(_: Payload<Charge>, world: State<World>, id: TaskId) -> Result<(), TaskError> {
    crash_point().await;
    tokio::task::yield_now().await;
    world.add_once(id.as_str());
    crash_point().await;
    Ok(())
}

#[tokio::test]
async fn each_await_of_an_idempotent_handler_is_a_crash_point_and_is_counted() {
    let test = crash_everywhere(charge_once, CHARGE).with_state(World::default);
    let summary = test.check(World::lines).await.unwrap();
    assert_eq!(summary.crash_points, 3);
    // Two undisturbed runs; one for each crash point and one past the last, both dropped and paused; one lost outcome.
    assert_eq!(summary.runs, 2 + 2 * 4 + 1);
}

#[tokio::test]
async fn awaits_that_are_ready_immediately_are_not_crash_points_until_tokio_yields() {
    let lock = |_: Payload<Charge>, times: State<usize>| async move {
        let lock = tokio::sync::Mutex::new(());
        for _ in 0..*times {
            drop(lock.lock().await);
        }
        Ok::<_, TaskError>(())
    };
    for (times, crash_points) in [(0, 0), (100, 0), (200, 1), (300, 2)] {
        // Each attempt starts with the full budget that tokio gives a task before it must wait.
        let test = crash_everywhere(lock, CHARGE).state::<usize>(times);
        let summary = test.check(|()| ()).await.unwrap();
        assert_eq!(summary.crash_points, crash_points, "{times}");
    }
}

#[tokio::test]
async fn other_wakes_of_the_test_add_no_crash_points() {
    let waits = |_: Payload<Charge>| async {
        tokio::time::sleep(Duration::from_millis(2)).await;
        Ok::<_, TaskError>(())
    };
    let test = crash_everywhere(waits, CHARGE).check(|()| ());
    let busy = async {
        loop {
            tokio::task::yield_now().await;
        }
    };
    let summary = tokio::select! {
        summary = test => summary.unwrap(),
        () = busy => unreachable!(),
    };
    assert_eq!(summary.crash_points, 1);
}

async fn add(_: Payload<Charge>, world: State<World>) -> Result<(), TaskError> {
    world.add("charged");
    Ok(())
}

#[tokio::test]
async fn a_lost_outcome_is_found_without_any_await() {
    let test = crash_everywhere(add, CHARGE).with_state(World::default);
    let found = found(test.check(World::lines).await);
    assert_eq!(place_of(found.crash), (CrashKind::OutcomeLost, 1, 0, 0));
    let attempts = ["1 completed, and its outcome was lost", "2 completed"];
    assert_eq!(found.attempts, attempts);
    assert!(found.to_string().contains("its outcome was lost, and the"));
}

/// Checks first, and then acts.
async fn check_then_add(_: Payload<Charge>, world: State<World>) -> Result<(), TaskError> {
    let is_new = world.lines().is_empty();
    crash_point().await;
    if is_new {
        world.add("charged");
    }
    Ok(())
}

#[tokio::test]
async fn a_check_before_the_effect_survives_a_drop_but_not_a_late_duplicate() {
    let test = crash_everywhere(check_then_add, CHARGE).with_state(World::default);
    let found = found(test.check(World::lines).await);
    assert_eq!(place_of(found.crash), (CrashKind::LateDuplicate, 1, 1, 1));
    assert_eq!(
        found.attempts,
        [
            "1 paused at await 1, later resumed and completed",
            "2 completed"
        ]
    );
    assert_eq!(found.differences[0].found, r#"["charged", "charged"]"#);
}

#[tokio::test]
async fn a_handler_that_never_ends_is_reported() {
    let endless = |_: Payload<Charge>| async {
        loop {
            crash_point().await;
        }
        #[allow(unreachable_code)]
        Ok::<_, TaskError>(())
    };
    let test = crash_everywhere(endless, CHARGE).max_awaits(50);
    let error = test.check(|()| ()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "`charge` did not end: an attempt waited 51 times; the limit is 50. Make the handler return, or raise the limit \
         with `.max_awaits(…)`."
    );
    let snoozes = |_: Payload<Charge>| async { Err::<(), _>(TaskError::snooze(Duration::ZERO)) };
    let test = crash_everywhere(snoozes, CHARGE);
    let error = test.check(|()| ()).await.unwrap_err();
    assert!(
        error.to_string().contains("it took 1000 attempts"),
        "{error}"
    );
}

#[tokio::test]
async fn a_handler_that_does_not_end_after_a_crash_is_reported_with_the_crash() {
    /// Waits until the claim of a dropped attempt is gone.
    async fn claim(_: Payload<Charge>, State(world): State<World>) -> Result<(), TaskError> {
        while !world.lines().is_empty() {
            crash_point().await;
        }
        world.add("claimed");
        crash_point().await;
        world.0.lock().unwrap().clear();
        Ok(())
    }
    let test = crash_everywhere(claim, CHARGE).with_state(World::default);
    let error = test.check(World::lines).await.unwrap_err();
    let CrashError::Endless {
        crash: Some(crash), ..
    } = &error
    else {
        panic!("expected an endless run, got {error:?}");
    };
    assert_eq!(place_of(*crash), (CrashKind::Dropped, 1, 1, 1));
    let text = error.to_string();
    assert!(
        text.contains("in a run in which attempt 1 was dropped"),
        "{text}"
    );
}

#[tokio::test]
async fn an_attempt_may_have_the_maximum_number_of_awaits() {
    let test = crash_everywhere(charge_once, CHARGE).with_state(World::default);
    let summary = test.max_awaits(3).check(World::lines).await.unwrap();
    assert_eq!(summary.crash_points, 3);
    let test = crash_everywhere(add, CHARGE).with_state(World::default);
    let found = found(test.max_awaits(0).check(World::lines).await);
    assert_eq!(found.crash.kind, CrashKind::OutcomeLost);
    let test = crash_everywhere(charge_once, CHARGE).with_state(World::default);
    let error = test.max_awaits(2).check(World::lines).await.unwrap_err();
    assert!(
        matches!(error, CrashError::Endless { limit: 2, .. }),
        "{error:?}"
    );
}
