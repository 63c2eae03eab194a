//! The attempts of a run: their numbers, failures, layers and limits.

use std::sync::{Arc, Mutex};

use asynqueue_core::{
    layer::{ConcurrencyLimitLayer, Hook, Next, TaskRequest, middleware_fn},
    process::{Context, Payload, State, TaskError},
    registry::ProcessWrapper,
    task::FailureKind,
    testing::{CrashError, CrashKind, crash_everywhere, crash_point},
};

use crate::{CHARGE, Charge, World, found, place_of};

type Seen = Arc<Mutex<Vec<(u32, Vec<FailureKind>)>>>;

#[tokio::test]
async fn attempts_are_numbered_and_failures_kept_like_on_a_server() {
    let seen = Seen::default();
    let process = |_: Payload<Charge>, seen: State<Seen>, ctx: Context| async move {
        let failures = ctx.envelope().failures().iter();
        let failures: Vec<_> = failures.map(|failure| failure.kind).collect();
        seen.lock().unwrap().push((ctx.attempt(), failures));
        match ctx.attempt() {
            1 => Err(TaskError::from("no route")),
            _ => Ok(()),
        }
    };
    let test = crash_everywhere(process, CHARGE).state(Arc::clone(&seen));
    assert_eq!(test.check(|()| ()).await.unwrap().crash_points, 0);
    use FailureKind::{Error, LeaseExpired};
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let undisturbed = [(1, vec![]), (2, vec![Error])];
    assert_eq!(seen[..2], undisturbed);
    for disturbed in [
        [(1, vec![]), (2, vec![LeaseExpired])].as_slice(),
        &[
            (1, vec![]),
            (2, vec![Error]),
            (3, vec![Error, LeaseExpired]),
        ],
    ] {
        let mut runs = seen.windows(disturbed.len());
        assert!(runs.any(|run| run == disturbed), "{disturbed:?}: {seen:?}");
    }
}

#[tokio::test]
async fn crash_points_of_later_attempts_are_tried_too() {
    let process = |_: Payload<Charge>, world: State<World>, ctx: Context| async move {
        crash_point().await;
        if ctx.envelope().failures().is_empty() {
            return Err(TaskError::from("no route"));
        }
        world.add("charged");
        crash_point().await;
        Ok(())
    };
    let test = crash_everywhere(process, CHARGE).with_state(World::default);
    let found = found(test.check(World::lines).await);
    assert_eq!(place_of(found.crash), (CrashKind::Dropped, 2, 2, 2));
    assert_eq!(
        found.attempts,
        ["1 failed: no route", "2 dropped at await 2", "3 completed"]
    );
}

#[tokio::test]
async fn layers_and_hooks_of_the_handler_run_and_crash_with_it() {
    struct Audit(World);
    impl Hook for Audit {
        async fn after(&self, ctx: &Context) {
            self.0.add_once(&format!("audited {}", ctx.id()));
        }
    }
    let audit = World::default();
    let process = ProcessWrapper::new(|_: Payload<Charge>| async { Ok::<_, TaskError>(()) })
        .with_hook(Audit(audit.clone()))
        .layer(middleware_fn(
            |request: TaskRequest, next: Next| async move {
                let world = request.context.state::<World>()?.clone();
                world.add("noted");
                crash_point().await;
                next.run(request).await
            },
        ));
    let test = crash_everywhere(process, CHARGE).with_state(World::default);
    let found = found(test.check(World::lines).await);
    assert_eq!(place_of(found.crash), (CrashKind::Dropped, 1, 1, 1));
    assert_eq!(audit.lines().len(), 1);
}

// Paused, so that an attempt that waits for the limit reaches its timeout immediately.
#[tokio::test(start_paused = true)]
async fn a_limit_delays_no_attempt_because_each_is_on_a_separate_server() {
    let process = ProcessWrapper::new(|_: Payload<Charge>| async {
        crash_point().await;
        Ok::<_, TaskError>(())
    });
    let process = process.layer(ConcurrencyLimitLayer::new(1));
    let summary = crash_everywhere(process, CHARGE).check(|()| ()).await;
    assert_eq!(summary.unwrap().crash_points, 1);
}

#[tokio::test]
async fn a_task_without_attempts_left_after_a_crash_is_a_finding() {
    let last = |_: Payload<Charge>, ctx: Context| async move {
        match ctx.attempt() > ctx.max_retry() {
            true => Ok(()),
            false => Err(TaskError::from("not yet")),
        }
    };
    let test = crash_everywhere(last, CHARGE).enqueued_with(|call| call.max_retry(1));
    let found = found(test.check(|()| ()).await);
    assert_eq!(found.crash.attempt, 2);
    let difference = &found.differences[0];
    assert_eq!(
        (difference.what, &*difference.expected),
        ("outcome", "completed")
    );
    assert!(
        difference.found.starts_with("archived: lease expired"),
        "{difference}"
    );
}

#[tokio::test]
async fn a_task_that_is_never_retried_is_refused() {
    let process = |_: Payload<Charge>| async { Ok::<_, TaskError>(()) };
    let test = crash_everywhere(process, CHARGE).enqueued_with(|call| call.max_retry(0));
    let error = test.check(|()| ()).await.unwrap_err();
    assert!(matches!(error, CrashError::NeverRetried { .. }), "{error}");
}

#[tokio::test]
async fn a_panic_is_retried_and_one_in_a_destructor_does_not_reach_the_test() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let process = |_: Payload<Charge>, ctx: Context| async move {
        assert!(ctx.attempt() > 1, "the first one panics");
        let bomb = Bomb;
        crash_point().await;
        std::mem::forget(bomb);
        Ok::<_, TaskError>(())
    };
    let summary = crash_everywhere(process, CHARGE).check(|()| ()).await;
    assert_eq!(summary.unwrap().crash_points, 1);
}

#[tokio::test]
async fn a_handler_whose_state_is_missing_is_refused() {
    let process = |_: Payload<Charge>, _: State<World>| async { Ok::<_, TaskError>(()) };
    let error = crash_everywhere(process, CHARGE)
        .check(|()| ())
        .await
        .unwrap_err();
    assert!(matches!(error, CrashError::MissingState(_)), "{error:?}");
    assert!(error.to_string().contains("World"), "{error}");
}

#[tokio::test]
async fn blocking_code_ends_before_the_task_is_redelivered() {
    let process = |_: Payload<Charge>, State(world): State<World>, ctx: Context| async move {
        ctx.run_blocking(move |_| {
            world.add("started");
            for _ in 0..10_000 {
                std::thread::yield_now();
            }
            world.add("ended");
        })
        .await
    };
    let overlaps = |world: &World| {
        let lines = world.lines();
        lines.iter().step_by(2).any(|line| line != "started")
    };
    let test = crash_everywhere(process, CHARGE).with_state(World::default);
    // It may run at the same time as that of a paused attempt.
    if let Err(CrashError::Found(found)) = test.check(overlaps).await {
        assert_eq!(found.crash.kind, CrashKind::LateDuplicate, "{found}");
    }
}
