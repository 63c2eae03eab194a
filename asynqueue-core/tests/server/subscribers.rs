//! Subscribers: each with its own queue, and the event that is published.

use std::{collections::HashSet, sync::Arc};

use asynqueue_core::{
    broker::Subscription,
    process::{Context, Payload, Process, TaskError},
    producer::Producer,
    server::{Server, ServerError},
    task::{Name, Task},
};
use asynqueue_macros::Task;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::harness::{Job, broker, job, until};

/// The same fields as `Job`.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "lookalike", crate = asynqueue_core)]
struct Lookalike {
    n: u64,
}

async fn ignore(_: Payload<Job>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

#[test]
fn a_subscriber_whose_queue_could_collide_with_another_is_rejected_by_name() {
    for bad in ["a@b", "@", "a\nb"] {
        let server = Server::builder(broker().0).subscribe(bad, ignore);
        let error = server.build().expect_err(bad);
        assert!(
            matches!(error, ServerError::InvalidSubscriber(_)),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(bad) && text.contains("`job`"), "{text}");
    }
    let server = Server::builder(broker().0).subscribe("a.b:c/d-e%40", ignore);
    server.build().expect("an ordinary name");
}

#[test]
fn no_two_subscriptions_have_the_same_queue() {
    let parts = ["a", "b", "a@b", "b@c", "c", "@", "@a", "a@"];
    let mut queues = HashSet::new();
    for event in parts.map(Name::from) {
        let outbox = Subscription::queue_of(&event, "");
        assert!(queues.insert(outbox.clone()), "{outbox}");
        for name in parts.map(Name::from) {
            if Subscription::check(&event, &name).is_ok() {
                let queue = Subscription::queue_of(&event, &name);
                assert!(queues.insert(queue.clone()), "{queue}");
            }
        }
    }
    assert_eq!(queues.len(), parts.len() * 4, "a, b and c are ordinary");
    assert_eq!(
        Subscription::queue_of("order:placed", "billing"),
        "billing@order:placed"
    );
}

#[tokio::test]
async fn a_handler_runs_no_task_of_another_event_in_its_queue() {
    let (broker, producer) = broker();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let _server = Server::builder(broker)
        .concurrency(1)
        .subscribe("audit", move |task: Payload<Job>, ctx: Context| {
            note.lock().push((ctx.event().to_string(), task.n));
            async { Ok::<_, TaskError>(()) }
        })
        .start()
        .await
        .unwrap();
    let queue = Subscription::queue_of(Job::EVENT, "audit");
    let lookalikes = (0..5).map(|n| Lookalike { n });
    let sent = producer.enqueue_many_with(lookalikes, |_, call| call.queue(&queue));
    assert!(sent.await.iter().all(Result::is_ok));
    producer.enqueue(job(7)).queue(&queue).await.unwrap();
    until("the last is handled", async || !seen.lock().is_empty()).await;
    assert_eq!(*seen.lock(), [("job".to_owned(), 7)]);
}

/// Handles tasks with the same fields under another name.
struct Renamed;

impl Process<Job> for Renamed {
    fn event_name(&self) -> &str {
        "other"
    }

    async fn handle(&self, _: Payload<Job>, _: &Context) -> Result<(), TaskError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_subscriber_that_would_receive_nothing_published_is_rejected() {
    let (broker, _) = broker();
    let server = Server::builder(broker.clone()).subscribe("audit", Renamed);
    let error = server.build().expect_err("refused").to_string();
    for part in ["`audit`", "`other`", "`job`", "event_name"] {
        assert!(error.contains(part), "no {part} in: {error}");
    }
    // Publishing and subscribing use one name.
    let _server = Server::builder(broker.clone())
        .process(Renamed)
        .subscribe("audit", ignore)
        .start()
        .await
        .unwrap();
    until("it is subscribed", async || {
        let published = Producer::new(broker.clone()).publish(job(1)).await;
        published.unwrap().subscribers == 1
    })
    .await;
}
