//! Tasks whose event has no handler on a server: another may have one, so they are released without an attempt.

use std::time::Duration;

use asynqueue_core::{
    broker::Fleet,
    inspector::{Action, ActionOutcome},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::{Server, ServerBuilder},
    task::{Backoff, FailureKind, Task, TaskState},
    testing::{Drained, TestClock, drain},
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize};

use crate::harness::{AN_HOUR, Job, broker, counts, enqueue_jobs, failure_of, info, job, until};

/// A type known only to the newest build.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "fresh", retention = "7d", crate = asynqueue_core)]
struct Fresh;

async fn fresh(_: Payload<Fresh>, _: Context) -> Result<(), TaskError> {
    tokio::time::sleep(Duration::from_millis(5)).await;
    Ok(())
}

async fn known(_: Payload<Job>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

/// A server with eight slots that polls all the time.
fn server(broker: &MemoryBroker) -> ServerBuilder {
    let server = Server::builder(broker.clone()).concurrency(8);
    server
        .poll_interval(Duration::from_millis(5))
        .lease(AN_HOUR)
}

/// Advances time until all tasks have completed, with no other outcome.
async fn all_complete(clock: &TestClock, broker: &MemoryBroker, tasks: u64) {
    until("all have completed", async || {
        clock.advance(Duration::from_millis(100));
        counts(broker).await == [(TaskState::Completed, tasks)]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_deploy_runs_every_task_of_a_new_event_and_counts_no_attempt() {
    let (clock, broker, producer) = on_test_clock();
    let _old = server(&broker).process(known).start().await.unwrap();
    let new = server(&broker).process(known).process(fresh);
    let _new = new.start().await.unwrap();
    let handles = producer.enqueue_many((0..200).map(|_| Fresh)).await;
    all_complete(&clock, &broker, 200).await;
    for handle in handles {
        let task = info(&handle.unwrap()).await.envelope;
        assert_eq!((task.attempts, task.failures().len()), (0, 0));
        assert_eq!(task.unhandled_since(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_services_that_share_a_queue_run_their_own_tasks() {
    let (clock, broker, producer) = on_test_clock();
    for n in 0..500 {
        producer.enqueue(job(n)).await.unwrap();
        producer.enqueue(Fresh).await.unwrap();
    }
    let _jobs = server(&broker).process(known).start().await.unwrap();
    let _others = server(&broker).process(fresh).start().await.unwrap();
    all_complete(&clock, &broker, 1_000).await;
}

#[tokio::test]
async fn tasks_without_a_handler_occupy_no_slot_and_are_reported() {
    let (broker, producer) = broker();
    let handles = producer.enqueue_many((0..300).map(|_| Fresh)).await;
    let server = Server::builder(broker.clone()).concurrency(1);
    let _server = server.process(known).start().await.unwrap();
    let jobs = enqueue_jobs(&producer, 1).await;
    crate::harness::output_of(&jobs[0]).await;
    until("the server reports them", async || {
        let servers = broker.servers().await.unwrap();
        let unhandled = servers.iter().flat_map(|server| &server.unhandled);
        unhandled
            .filter(|tasks| tasks.event == Fresh::EVENT && tasks.queue == "default")
            .any(|tasks| (1..=300).contains(&tasks.tasks))
    })
    .await;
    assert_eq!(handles.len(), 300);
    let archived = |(state, _): &(TaskState, u64)| *state == TaskState::Archived;
    assert!(!counts(&broker).await.iter().any(archived));
}

/// A server without a handler for `Fresh`, on the test's clock.
fn on_test_clock() -> (TestClock, MemoryBroker, Producer) {
    let clock = TestClock::default();
    let broker = MemoryBroker::with_clock(clock.clone());
    (clock, broker.clone(), Producer::new(broker))
}

async fn drained(broker: &MemoryBroker) -> Drained {
    let server = Server::builder(broker.clone()).process(known);
    drain(server).await.unwrap()
}

#[tokio::test]
async fn an_unhandled_task_is_released_for_growing_delays_and_archived_after_the_grace() {
    let (clock, broker, producer) = on_test_clock();
    let task = producer.enqueue(Fresh).await.unwrap();
    let (mut times, mut waited) = (0, Duration::ZERO);
    while info(&task).await.state != TaskState::Archived {
        let drained = drained(&broker).await;
        assert_eq!(drained.snoozed + drained.archived, 1, "{drained:?}");
        times += 1;
        let wait = waited.clamp(Duration::from_secs(1), Duration::from_secs(60));
        clock.advance(wait.mul_f64(1.26));
        waited += wait.mul_f64(1.26);
    }
    // 1 s, 1.26 s, 2.8 s … 60 s, and then one a minute.
    assert!((50..=60).contains(&times), "released {times} times");
    let task = info(&task).await.envelope;
    let failure = task.last_failure().unwrap();
    assert_eq!(failure.kind, FailureKind::UnknownEvent);
    let start =
        "no handler is registered for event `fresh`, and no other server has taken the task in 3";
    assert!(failure.message.starts_with(start), "{}", failure.message);
}

#[tokio::test]
async fn a_task_that_is_old_when_first_released_gets_the_full_grace() {
    let (clock, broker, producer) = on_test_clock();
    let two_hours = Duration::from_secs(2 * 3600);
    let task = producer.enqueue(Fresh).delay(two_hours).await.unwrap();
    clock.advance(two_hours);
    assert_eq!(drained(&broker).await.snoozed, 1);
    let server = Server::builder(broker.clone()).process(fresh);
    clock.advance(Duration::from_secs(2));
    drain(server).await.unwrap().assert_completed(1);
    assert_eq!(info(&task).await.envelope.unhandled_since(), None);
}

#[tokio::test]
async fn a_task_that_is_run_again_gets_the_full_grace() {
    let (clock, broker, producer) = on_test_clock();
    let task = producer.enqueue(Fresh).await.unwrap();
    drained(&broker).await;
    clock.advance(Duration::from_secs(3600));
    assert_eq!(drained(&broker).await.archived, 1);
    let inspector = asynqueue_core::inspector::Inspector::new(broker.clone());
    let tasks = [task.task_ref().clone()];
    let outcomes = inspector.apply(&Action::RunNow, &tasks).await.unwrap();
    assert_eq!(outcomes, [ActionOutcome::Done]);
    assert_eq!(drained(&broker).await.snoozed, 1);
}

#[tokio::test]
async fn a_grace_of_zero_archives_immediately() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone()).unknown_event_grace(Duration::ZERO);
    let _server = server.process(known).start().await.unwrap();
    let failure = failure_of(&producer.enqueue(Fresh).await.unwrap()).await;
    assert_eq!(failure.kind, FailureKind::UnknownEvent);
    assert_eq!(
        failure.message,
        "no handler is registered for event `fresh`"
    );
}

#[tokio::test]
async fn a_task_started_in_time_is_released_by_a_server_without_its_handler() {
    let (clock, broker, producer) = on_test_clock();
    let task = producer.enqueue(Fresh).expires_in(AN_HOUR);
    let task = task.backoff(Backoff::Fixed(AN_HOUR)).await.unwrap();
    let failing = async |_: Payload<Fresh>, _: Context| Err::<(), _>(TaskError::retry("no luck"));
    let new = Server::builder(broker.clone()).process(failing);
    assert_eq!(drain(new).await.unwrap().retried, 1);
    clock.advance(AN_HOUR);
    // It expires only before its first start.
    assert_eq!(drained(&broker).await.snoozed, 1);
    assert_eq!(info(&task).await.state, TaskState::Scheduled);
}

#[tokio::test]
async fn a_server_without_the_handler_archives_a_task_past_its_deadline() {
    let (clock, broker, producer) = on_test_clock();
    let second = Duration::from_secs(1);
    let task = producer.enqueue(Fresh).deadline(second).await.unwrap();
    clock.advance(second);
    assert_eq!(drained(&broker).await.archived, 1);
    let task = info(&task).await.envelope;
    assert_eq!(task.last_failure().unwrap().kind, FailureKind::Deadline);
}
