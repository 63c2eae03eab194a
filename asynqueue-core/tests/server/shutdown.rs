//! Shutdown: nothing is lost, and nothing stays leased.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use asynqueue_core::{
    process::{Context, Payload, TaskError},
    server::Server,
    task::TaskState,
};
use tokio::sync::{Semaphore, oneshot};

use crate::{
    faulty::{Faulty, shut},
    harness::{
        AN_HOUR, Job, becomes, broker, counts, counts_become, enqueue_jobs, failure_of, info, job,
        output_of, soon, until,
    },
};

#[tokio::test]
async fn shutdown_waits_for_running_tasks_and_releases_the_others() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    // Leased ahead: one runs and four wait for the slot.
    faulty.faults.generous.store(4, SeqCst);
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let handles = enqueue_jobs(&producer, 5).await;
    let server = Server::builder(faulty)
        .concurrency(1)
        .process(move |_: Payload<Job>, _: Context| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    becomes(&handles[4], TaskState::Active).await;
    // Otherwise the first has not started either, and is released like the others.
    until("the first runs", async || server.stats().running == 1).await;
    let shutdown = tokio::spawn(server.shutdown());
    // Released while the first still runs.
    counts_become(&broker, &[(TaskState::Pending, 4), (TaskState::Active, 1)]).await;
    assert!(!shutdown.is_finished());
    pass.add_permits(1);
    soon("the server ends", shutdown).await.unwrap().unwrap();
    counts_become(
        &broker,
        &[(TaskState::Pending, 4), (TaskState::Completed, 1)],
    )
    .await;
    for handle in &handles[1..] {
        let envelope = info(handle).await.envelope;
        assert_eq!((envelope.attempts, envelope.failures().len()), (0, 0));
    }
}

#[tokio::test]
async fn released_tasks_keep_their_order() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    faulty.faults.generous.store(4, SeqCst);
    let handles = enqueue_jobs(&producer, 5).await;
    let server = Server::builder(faulty)
        .concurrency(1)
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(Duration::ZERO)
        .process(|_: Payload<Job>, _: Context| std::future::pending::<Result<(), TaskError>>())
        .start()
        .await
        .unwrap();
    becomes(&handles[4], TaskState::Active).await;
    soon("the server ends", server.shutdown()).await.unwrap();
    counts_become(&broker, &[(TaskState::Pending, 5)]).await;
    let page = asynqueue_core::broker::Inspect::list(
        &broker,
        &"default".into(),
        TaskState::Pending,
        asynqueue_core::broker::Page::default(),
    )
    .await
    .unwrap();
    let ids: Vec<_> = page.tasks.iter().map(|task| &task.envelope.id).collect();
    let expected: Vec<_> = handles.iter().map(|handle| handle.id()).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn a_task_that_ignores_the_shutdown_is_cut_off_and_released_uncounted() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .shutdown_timeout(Duration::from_millis(20))
        .cancel_grace(Duration::from_millis(20))
        .process(|_: Payload<Job>, _: Context| std::future::pending::<Result<(), TaskError>>())
        .start()
        .await
        .unwrap();
    let handles = enqueue_jobs(&producer, 3).await;
    until("all run", async || server.stats().running == 3).await;
    soon("the server ends", server.shutdown()).await.unwrap();
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 3)]);
    for handle in &handles {
        let envelope = info(handle).await.envelope;
        assert_eq!((envelope.attempts, envelope.failures().len()), (0, 0));
    }
}

#[tokio::test]
async fn a_task_that_returns_an_error_at_shutdown_is_released_uncounted() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .shutdown_timeout(Duration::from_millis(20))
        .cancel_grace(AN_HOUR)
        .process(|task: Payload<Job>, ctx: Context| async move {
            ctx.cancelled().await;
            match task.n {
                0 => Err(TaskError::retry("interrupted")),
                1 => Err(TaskError::retry_after(AN_HOUR, "interrupted")),
                2 => Err(TaskError::skip_retry("half done, and not to be repeated")),
                _ => Ok(()),
            }
        })
        .start()
        .await
        .unwrap();
    let handles = enqueue_jobs(&producer, 4).await;
    until("all run", async || server.stats().running == 4).await;
    soon("the server ends", server.shutdown()).await.unwrap();
    let expected = [
        (TaskState::Pending, 2),
        (TaskState::Completed, 1),
        (TaskState::Archived, 1),
    ];
    assert_eq!(counts(&broker).await, expected);
    for handle in &handles[..2] {
        let envelope = info(handle).await.envelope;
        assert_eq!((envelope.attempts, envelope.failures().len()), (0, 0));
    }
}

#[tokio::test]
async fn a_released_task_runs_on_the_next_server() {
    let (broker, producer) = broker();
    let cut_off = Server::builder(broker.clone())
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(Duration::ZERO)
        .process(|_: Payload<Job>, _: Context| std::future::pending::<Result<(), TaskError>>())
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || cut_off.stats().running == 1).await;
    cut_off.shutdown().await.unwrap();
    let _next = Server::builder(broker.clone())
        .poll_interval(AN_HOUR)
        .process(|_: Payload<Job>, ctx: Context| async move {
            assert_eq!(ctx.attempt(), 1);
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    output_of(&task).await;
}

#[tokio::test]
async fn dropping_the_handle_shuts_down_gracefully_in_the_background() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, _: Context| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let running = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || server.stats().running == 1).await;
    drop(server);
    pass.add_permits(1);
    output_of(&running).await;
    // No server is left to lease this one.
    let next = producer.enqueue(job(2)).await.unwrap();
    counts_become(
        &broker,
        &[(TaskState::Pending, 1), (TaskState::Completed, 1)],
    )
    .await;
    assert_eq!(info(&next).await.state, TaskState::Pending);
}

#[tokio::test]
async fn shutdown_after_an_interrupted_wait_for_the_end_still_waits_for_running_tasks() {
    let (broker, producer) = broker();
    let gate = Arc::new(Semaphore::new(0));
    let pass = Arc::clone(&gate);
    let mut server = Server::builder(broker.clone())
        .process(move |_: Payload<Job>, _: Context| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await.expect("open").forget();
                Ok::<_, TaskError>(())
            }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || server.stats().running == 1).await;
    // As in a `select!` with a signal.
    tokio::select! {
        biased;
        _ = server.ended() => panic!("it did not end"),
        () = std::future::ready(()) => {}
    }
    let shutdown = tokio::spawn(server.shutdown());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!shutdown.is_finished(), "the task still runs");
    pass.add_permits(1);
    soon("the server ends", shutdown).await.unwrap().unwrap();
    assert_eq!(info(&task).await.state, TaskState::Completed);
}

#[tokio::test]
async fn an_idle_server_ends_immediately_on_request() {
    let (broker, _) = broker();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = Server::builder(broker)
        .poll_interval(AN_HOUR)
        .shutdown_timeout(AN_HOUR)
        .process(|_: Payload<Job>, _: Context| async { Ok::<_, TaskError>(()) });
    let running = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    stop.send(()).unwrap();
    soon("the server ends", running).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lease_under_way_at_shutdown_is_released_however_short_the_timeout() {
    let (broker, producer) = broker();
    let faulty = Faulty::new(&broker);
    shut(&faulty.faults.lease_answers);
    let task = producer.enqueue(job(1)).await.unwrap();
    let server = Server::builder(faulty.clone())
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(Duration::ZERO)
        .process(|_: Payload<Job>, _: Context| std::future::pending::<Result<(), TaskError>>())
        .start()
        .await
        .unwrap();
    becomes(&task, TaskState::Active).await;
    let shutdown = tokio::spawn(server.shutdown());
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    faulty.faults.lease_answers.add_permits(1_000);
    soon("the server ends", shutdown).await.unwrap().unwrap();
    assert_eq!(counts(&broker).await, [(TaskState::Pending, 1)]);
    assert_eq!(info(&task).await.envelope.attempts, 0);
}

#[tokio::test]
async fn outcomes_are_recorded_before_the_server_ends() {
    let (broker, producer) = broker();
    let runs = Arc::new(AtomicUsize::new(0));
    let run = Arc::clone(&runs);
    let server = Server::builder(broker.clone())
        .process(move |task: Payload<Job>, _: Context| {
            run.fetch_add(1, SeqCst);
            async move {
                if task.n.is_multiple_of(10) {
                    Err(TaskError::skip_retry("ten"))
                } else {
                    Ok(())
                }
            }
        })
        .start()
        .await
        .unwrap();
    enqueue_jobs(&producer, 2_000).await;
    until("some ran", async || runs.load(SeqCst) > 100).await;
    soon("the server ends", server.shutdown()).await.unwrap();
    let counts: std::collections::BTreeMap<_, _> = counts(&broker).await.into_iter().collect();
    let count = |state| counts.get(&state).copied().unwrap_or_default();
    assert_eq!(count(TaskState::Active), 0);
    let ended = count(TaskState::Completed) + count(TaskState::Archived);
    assert_eq!(ended, runs.load(SeqCst) as u64, "what ran is recorded");
    assert_eq!(ended + count(TaskState::Pending), 2_000);
}

#[tokio::test]
async fn a_cancelled_task_that_is_cut_off_at_shutdown_stays_cancelled() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone())
        .shutdown_timeout(Duration::ZERO)
        .cancel_grace(Duration::from_millis(50))
        .process(|_: Payload<Job>, _: Context| std::future::pending::<Result<(), TaskError>>())
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(job(1)).await.unwrap();
    until("it runs", async || server.stats().running == 1).await;
    task.cancel("enough").await.unwrap();
    soon("the server ends", server.shutdown()).await.unwrap();
    assert_eq!(failure_of(&task).await.message, "enough");
    assert_eq!(counts(&broker).await, [(TaskState::Archived, 1)]);
}
