//! Handlers that sleep, and handlers that take too long.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    layer::{Next, TaskRequest, middleware_fn},
    process::{Context, Payload, State, TaskError},
    registry::ProcessWrapper,
    testing::{CrashKind, crash_everywhere},
};

use crate::{CHARGE, Charge, World, found, place_of};

/// As in a fake of another service.
type Lock = Arc<tokio::sync::Mutex<()>>;

#[tokio::test(start_paused = true)]
async fn a_sleeping_handler_keeps_its_timeout_regardless_of_the_total_time() {
    // The timeout is one minute, and 59 runs take longer than that.
    let sleeps = |_: Payload<Charge>| async {
        for _ in 0..29 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok::<_, TaskError>(())
    };
    let summary = crash_everywhere(sleeps, CHARGE).check(|()| ()).await;
    assert_eq!(summary.unwrap().crash_points, 29);
}

#[tokio::test(start_paused = true)]
async fn a_timeout_is_a_failure_that_is_retried() {
    let slow_at_first = |_: Payload<Charge>, world: State<World>, ctx: Context| async move {
        if ctx.attempt() == 1 {
            std::future::pending::<()>().await;
        }
        world.add("done");
        Ok::<_, TaskError>(())
    };
    let test = crash_everywhere(slow_at_first, CHARGE).with_state(World::default);
    let found = found(test.check(World::lines).await);
    assert_eq!(place_of(found.crash), (CrashKind::OutcomeLost, 2, 0, 0));
    assert_eq!(found.attempts[0], "1 failed: timed out after 60s");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_waits_for_the_lock_of_a_paused_one_times_out() {
    let locks = |_: Payload<Charge>, lock: State<Lock>| async move {
        let held = lock.lock().await;
        tokio::task::yield_now().await;
        drop(held);
        Ok::<_, TaskError>(())
    };
    let test = crash_everywhere(locks, CHARGE).with_state(Lock::default);
    let found = found(test.check(|_| ()).await);
    assert_eq!(found.crash.kind, CrashKind::LateDuplicate);
    assert_eq!(found.differences[0].found, "archived: timed out after 60s");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_waits_in_a_layer_times_out_too() {
    let lock = Lock::default();
    let locks = middleware_fn(move |request: TaskRequest, next: Next| {
        let lock = lock.clone();
        async move {
            let _held = lock.lock().await;
            next.run(request).await
        }
    });
    let process = |_: Payload<Charge>| async {
        tokio::task::yield_now().await;
        Ok::<_, TaskError>(())
    };
    let process = ProcessWrapper::new(process).layer(locks);
    let found = found(crash_everywhere(process, CHARGE).check(|()| ()).await);
    assert_eq!(found.crash.kind, CrashKind::LateDuplicate);
    assert_eq!(found.differences[0].found, "archived: timed out after 60s");
}

#[tokio::test]
async fn effects_with_a_key_derived_from_the_time_are_found() {
    let process = |_: Payload<Charge>, world: State<World>, ctx: Context| async move {
        world.add_once(&format!("{:?}", ctx.started()));
        Ok::<_, TaskError>(())
    };
    let test = crash_everywhere(process, CHARGE).with_state(World::default);
    let found = found(test.check(World::lines).await);
    assert_eq!(found.crash.kind, CrashKind::OutcomeLost);
}
