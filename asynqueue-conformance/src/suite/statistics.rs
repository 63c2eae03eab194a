//! What servers count: the attempts of each event, and failures by cause.

use std::sync::Arc;

use asynqueue_core::{
    broker::Series,
    failure::Fingerprint,
    inspector::Inspector,
    process::{Payload, TaskError},
    producer::Producer,
    server::Server,
    statistics::{EventStats, Span},
    task::{DEFAULT_QUEUE, FailureKind, Name},
};

use super::{
    Harness,
    fixture::{Fixture, secs},
    lifecycle::{Job, Sum, eventually},
};

/// Succeeds for 0, and fails at once for other numbers.
async fn run(job: Payload<Job>) -> Result<u64, TaskError> {
    match job.0.0 {
        0 => Ok(7),
        n => Err(TaskError::skip_retry(format!("no route to host {n}"))),
    }
}

/// Runs two jobs that succeed, three that fail, and a sum, on a server that is then shut down.
async fn attempts(f: &Fixture<'_>) {
    let server = Server::builder(Arc::clone(&f.broker))
        .process(run)
        .process(|_: Payload<Sum>| async { Ok::<_, TaskError>(()) });
    let server = server.start().await.unwrap();
    let producer = Producer::new(Arc::clone(&f.broker));
    for n in [0, 0, 1, 22, 333] {
        producer.enqueue(Job(n)).await.unwrap();
    }
    producer.enqueue(Sum(vec![1])).await.unwrap();
    eventually("all attempts have ended", async || {
        let stats = f.broker.stats(&[DEFAULT_QUEUE.into()]).await.unwrap();
        stats[0].succeeded + stats[0].failed == 6
    })
    .await;
    server.shutdown().await.unwrap();
}

/// With how long they ran and waited, by the minute, the hour and the day.
pub async fn the_attempts_of_each_event_are_counted(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    attempts(&f).await;
    let inspector = Inspector::new(Arc::clone(&f.broker));
    for span in Span::ALL {
        let events = inspector.event_stats(None, span).await.unwrap();
        let outcomes = |event: &str| {
            let stats = &events[event];
            let measured = [stats.running.count(), stats.waiting.count()];
            assert_eq!(measured, [stats.started; 2], "{event} in {span}");
            [stats.started, stats.succeeded, stats.failed, stats.archived]
        };
        assert_eq!(outcomes("job"), [5, 2, 3, 3], "{span}");
        assert_eq!(outcomes("sum"), [1, 1, 0, 0], "{span}");
        let course = inspector.event_course(&"job".into(), span).await.unwrap();
        let started: u64 = course.iter().map(|(_, stats)| stats.started).sum();
        assert_eq!(started, 5, "{span}");
    }
}

/// As long as they are shown by the minute.
pub async fn the_attempts_of_each_queue_are_counted_by_the_minute(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    attempts(&f).await;
    let inspector = Inspector::new(Arc::clone(&f.broker));
    let queue = Name::from(DEFAULT_QUEUE);
    let elsewhere = Name::from("elsewhere");
    let read = async |queue: Option<&Name>| {
        let since = f.broker.now() - Span::SixHours.length();
        inspector.minutes_since(queue, since).await.unwrap()
    };
    let all = read(None).await;
    let mut sum = EventStats::default();
    for (_, minute) in all.values().flatten() {
        sum.merge(minute);
    }
    assert_eq!((sum.started, sum.succeeded, sum.failed), (6, 3, 3));
    assert_eq!(read(Some(&queue)).await, all);
    assert_eq!(read(Some(&elsewhere)).await, [].into());
    f.advance(Span::SixHours.length() + secs(60)).await;
    assert_eq!(read(None).await, [].into());
}

/// Whatever the numbers in their messages.
pub async fn failures_are_counted_by_cause(harness: &dyn Harness) {
    let f = Fixture::new(harness).await;
    attempts(&f).await;
    let inspector = Inspector::new(Arc::clone(&f.broker));
    let cause = Fingerprint::of("job", FailureKind::Error, "no route to host 22");
    for series in [
        Series::FailureMinutes,
        Series::FailureHours,
        Series::FailureDays,
    ] {
        let since = f.broker.now() - secs(60);
        let failures = inspector.failures_since(series, since).await.unwrap();
        assert_eq!(failures.causes.len(), 1, "{series:?}");
        let found = &failures.causes[0];
        assert_eq!(found.fingerprint, cause);
        assert_eq!((&*found.event, found.kind), ("job", FailureKind::Error));
        let queues: Vec<_> = found.queues.iter().collect();
        assert_eq!(queues.len(), 1);
        assert_eq!(
            (&**queues[0].0, queues[0].1.failed, queues[0].1.archived),
            (DEFAULT_QUEUE, 3, 3)
        );
        let one = inspector.failures_of(cause, series, since).await.unwrap();
        assert_eq!(one.as_ref(), Some(found));
    }
}
