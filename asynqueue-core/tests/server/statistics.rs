//! What servers count by event.

use std::time::Duration;

use asynqueue_core::{
    broker::{Broker, Inspect, LeaseRequest, PointQuery, Series, all_of},
    inspector::Inspector,
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    server::Server,
    statistics::{EventStats, Span},
    task::{Name, TaskState},
};

use crate::harness::{Job, Sum, becomes, broker, counts_become, job, output_of, until};

/// Succeeds for 0, fails once for 1, and for good for 2.
async fn run(job: Payload<Job>, ctx: Context) -> Result<(), TaskError> {
    match job.n {
        1 if ctx.attempt() == 1 => Err(TaskError::retry("once")),
        2 => Err(TaskError::skip_retry("never")),
        _ => Ok(()),
    }
}

async fn stats_of(broker: &MemoryBroker, event: &str) -> EventStats {
    let stats = Inspector::new(broker.clone())
        .event_stats(None, Span::Hour)
        .await;
    stats.unwrap().remove(event).unwrap_or_default()
}

#[tokio::test]
async fn the_attempts_of_each_event_are_counted_by_outcome_and_time() {
    let (broker, producer) = broker();
    let server =
        Server::builder(broker.clone())
            .process(run)
            .process(|_: Payload<Sum>, _: Context| async {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok::<_, TaskError>(3)
            });
    let server = server.start().await.unwrap();
    output_of(&producer.enqueue(Sum { of: vec![] }).await.unwrap()).await;
    let ends = [
        TaskState::Completed,
        TaskState::Completed,
        TaskState::Archived,
    ];
    for (n, end) in (0..).zip(ends) {
        let handle = producer.enqueue(job(n)).await.unwrap();
        becomes(&handle, end).await;
    }
    assert_eq!(stats_of(&broker, "job").await, EventStats::default());
    server.shutdown().await.unwrap();

    let jobs = stats_of(&broker, "job").await;
    let outcomes = [jobs.started, jobs.succeeded, jobs.failed, jobs.archived];
    assert_eq!(outcomes, [4, 2, 2, 1]);
    assert_eq!(jobs.failure_rate(), Some(0.5));
    assert_eq!((jobs.running.count(), jobs.waiting.count()), (4, 4));
    let sums = stats_of(&broker, "sum").await;
    assert_eq!((sums.started, sums.succeeded), (1, 1));
    let time = sums.running.percentile(0.5).expect("measured");
    // It is in the bucket of 20 ms or above.
    assert!(time > Duration::from_millis(15), "{time:?}");
}

/// The course of an event has one point for each minute.
#[tokio::test]
async fn figures_of_two_servers_are_added_up() {
    let (broker, producer) = broker();
    for n in 0..2 {
        let server = Server::builder(broker.clone()).process(run);
        let server = server.start().await.unwrap();
        let handle = producer.enqueue(job(10 + n)).await.unwrap();
        becomes(&handle, TaskState::Completed).await;
        server.shutdown().await.unwrap();
    }
    assert_eq!(stats_of(&broker, "job").await.succeeded, 2);
    let inspector = Inspector::new(broker.clone());
    for span in Span::ALL {
        let course = inspector.event_course(&"job".into(), span).await.unwrap();
        let succeeded: u64 = course.iter().map(|(_, stats)| stats.succeeded).sum();
        assert_eq!(succeeded, 2, "{span}");
        let all = inspector.event_stats(None, span).await.unwrap();
        assert_eq!(all["job"].succeeded, 2, "{span}");
    }
    let since = broker.now() - Span::Hour.length();
    let default = Name::from("default");
    let all = inspector.minutes_since(None, since).await.unwrap();
    assert_eq!(all.keys().collect::<Vec<_>>(), [&default]);
    let outcomes = all[&default]
        .iter()
        .map(|(_, stats)| [stats.started, stats.succeeded, stats.failed]);
    let sum = outcomes.fold([0; 3], |sum, one| {
        [sum[0] + one[0], sum[1] + one[1], sum[2] + one[2]]
    });
    assert_eq!(sum, [2, 2, 0]);
    let one = inspector
        .minutes_since(Some(&default), since)
        .await
        .unwrap();
    assert_eq!(one, all);
    let other = inspector
        .minutes_since(Some(&"other".into()), since)
        .await
        .unwrap();
    assert_eq!(other, [].into());
}

#[tokio::test]
async fn a_lost_attempt_is_not_a_failure() {
    let (broker, producer) = broker();
    producer.enqueue(job(0)).await.unwrap();
    let lease = Duration::from_millis(100);
    let request = LeaseRequest::new(vec![("default".into(), 1)], 1, lease, "dead".into());
    all_of(broker.lease(&request).await).unwrap();
    let server = Server::builder(broker.clone()).lease(lease).process(run);
    let server = server.start().await.unwrap();
    counts_become(&broker, &[(TaskState::Completed, 1)]).await;
    server.shutdown().await.unwrap();
    let jobs = stats_of(&broker, "job").await;
    assert_eq!((jobs.lost, jobs.failed, jobs.succeeded), (1, 0, 1));
    let queue = Inspector::new(broker).queue(&"default".into()).await;
    let queue = queue.unwrap();
    let stats = queue.stats;
    assert_eq!((stats.lost, stats.failed, stats.succeeded), (1, 0, 1));
    assert_eq!(queue.today.ended(), 2);
}

/// So that they are seen while the server runs.
#[tokio::test]
async fn figures_are_added_while_the_server_runs() {
    let (broker, producer) = broker();
    let server = Server::builder(broker.clone()).process(run);
    let _server = server.start().await.unwrap();
    producer.enqueue(job(0)).await.unwrap();
    until("the figures are added", async || {
        let query = PointQuery::since(Series::EventMinutes, broker.now());
        !broker.points(&query).await.unwrap().is_empty()
    })
    .await;
}
