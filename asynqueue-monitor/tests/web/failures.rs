//! An incident: most attempts of one event fail, each with another request id in its message.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use asynqueue_core::{
    broker::SharedBroker,
    inspector::{Filter, Inspector},
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::Producer,
    server::Server,
    task::{Name, TaskState},
};
use asynqueue_macros::Task;
use asynqueue_test_servers::eventually;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::site::Site;

/// A charge, and how it ends.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "card:charge", queue = "payments", max_retry = 3, backoff = fixed("1h"), crate = asynqueue_core)]
struct Charge {
    ends: String,
}

/// A task of another event and of any queue.
#[derive(Clone, Serialize, Deserialize, Task)]
#[task(event = "mail:send", max_retry = 3, backoff = fixed("1h"), crate = asynqueue_core)]
struct Mail {
    fails: bool,
}

async fn charge(charge: Payload<Charge>, ctx: Context) -> Result<(), TaskError> {
    let id = ctx.id().as_str().to_lowercase();
    match charge.ends.as_str() {
        "broken" => Err(TaskError::skip_retry(format!(
            "400 Bad Request: unknown parameter amount_cents (request req_{id})"
        ))),
        "declined" => Err(TaskError::skip_retry("card_declined: insufficient_funds")),
        _ => Ok(()),
    }
}

async fn mail(mail: Payload<Mail>, _: Context) -> Result<(), TaskError> {
    match mail.fails {
        true => Err(TaskError::retry_after(
            Duration::from_secs(3600),
            "421 try again",
        )),
        false => Ok(()),
    }
}

const CAUSE: &str = "400 Bad Request: unknown parameter amount_cents (request req_#)";

/// The sizes of an incident.
struct Incident {
    broken: u64,
    declined: u64,
    /// Attempts in each of 13 other queues, and how many of them fail.
    others: (u64, u64),
}

impl Incident {
    /// Runs all tasks on a server, and stops it.
    async fn happen(&self, broker: &SharedBroker) {
        let producer = Producer::new(broker.clone());
        let charges =
            |ends: &'static str, count| (0..count).map(move |_| Charge { ends: ends.into() });
        let charges = charges("broken", self.broken).chain(charges("declined", self.declined));
        enqueue(&producer, charges.collect(), "payments").await;
        let queues: Vec<_> = (1..14).map(|place| format!("queue-{place:02}")).collect();
        let (all, failing) = self.others;
        for queue in &queues {
            let mails = (0..all).map(|place| Mail {
                fails: place < failing,
            });
            enqueue(&producer, mails.collect(), queue).await;
        }
        let mut server = Server::builder(broker.clone())
            .queue("payments", 1)
            .concurrency(256);
        for queue in &queues {
            server = server.queue(queue.as_str(), 1);
        }
        let server = server.log_failures(false).process(charge).process(mail);
        let server = server.start().await.expect("started");
        let inspector = Inspector::new(broker.clone());
        let is_idle = async || {
            let queues = inspector.queues().await.expect("read").into_iter();
            let waits =
                |state, queue: &asynqueue_core::inspector::QueueInfo| queue.stats.count(state) > 0;
            queues.filter(|queue| queue.name != "mail").all(|queue| {
                !waits(TaskState::Pending, &queue) && !waits(TaskState::Active, &queue)
            })
        };
        let limit = Duration::from_secs(600);
        let idle = async {
            while !is_idle().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(limit, idle).await.expect("it ends");
        server.shutdown().await.expect("stopped");
    }
}

async fn enqueue<T: asynqueue_core::task::Task + Clone>(
    producer: &Producer,
    tasks: Vec<T>,
    queue: &str,
) {
    for some in tasks.chunks(1_000) {
        let queue = Name::from(queue.to_owned());
        let all = some.iter().cloned();
        let results = producer.enqueue_many_with(all, |_, call| call.queue(queue.clone()));
        let results = results.await;
        assert!(results.iter().all(Result::is_ok));
    }
}

/// What an operator does: read the first entry, follow it, press the button.
async fn resolve(site: &Site, incident: &Incident) {
    let concerns = site.read("/api/attention").await;
    let first = &concerns[0];
    assert_eq!(first["kind"], "failing_cause", "{concerns}");
    assert_eq!(first["count"], json!(incident.broken));
    assert_eq!(
        (&first["queue"], &first["state"]),
        (&json!("payments"), &json!("archived"))
    );
    let text = first["text"].as_str().expect("text");
    assert!(
        text.starts_with(&format!("card:charge fails with error: {CAUSE}. ")),
        "{text}"
    );
    let page = site.page("/").await;
    let (_, entries) = page.split_once("Needs attention</h2>").expect("entries");
    let (entry, _) = entries.split_once("</li>").expect("an entry");
    assert!(entry.contains(CAUSE), "{entry}");

    // The tasks of the list are exactly those.
    let filter: Filter = first["filter"]
        .as_str()
        .expect("a filter")
        .parse()
        .expect("valid");
    let fingerprint = first["cause"].as_str().expect("a cause");
    assert_eq!(filter.to_string(), format!("cause={fingerprint}"));
    let list = first["page"].as_str().expect("a page");
    let list = site.page(list).await;
    assert!(
        list.contains("amount_cents") && !list.contains("insufficient_funds"),
        "{list}"
    );

    // The first click, and the second.
    let cause = format!("/failures/{fingerprint}");
    assert!(entry.contains(&format!("href=\"{cause}\"")), "{entry}");
    let page = site.page(&cause).await;
    assert!(
        page.contains("Retry all of these") && page.contains(CAUSE),
        "{page}"
    );
    let (status, to) = site.post(&cause, "do=retry").await;
    assert_eq!((status, to.as_str()), (303, cause.as_str()));
    let retried = async || {
        let info = site
            .inspector
            .queue(&"payments".into())
            .await
            .expect("a queue");
        info.stats.count(TaskState::Pending) == incident.broken
            && info.stats.count(TaskState::Archived) == incident.declined
    };
    eventually("exactly those are retried", retried).await;
}

fn in_total(failures: &serde_json::Value) -> u64 {
    let causes = failures["causes"].as_array().expect("a list");
    let counts = causes
        .iter()
        .filter_map(|cause| cause["recent"]["failed"].as_u64());
    counts.sum()
}

#[tokio::test]
async fn the_first_entry_names_the_true_cause_and_two_clicks_retry_exactly_its_tasks() {
    let site = Site::new().await;
    let incident = Incident {
        broken: 500,
        declined: 40,
        others: (20, 3),
    };
    incident.happen(&site.broker).await;
    resolve(&site, &incident).await;
    let failures = site.read("/api/failures").await;
    assert_eq!(in_total(&failures), 500 + 40 + 13 * 3 + 2, "{failures}");
    let mails = &failures["causes"][2];
    assert_eq!(mails["event"], "mail:send");
    assert_eq!(mails["queues"].as_object().expect("queues").len(), 13);
    let page = site.page("/failures").await;
    for text in [
        "card:charge",
        "421 try again",
        "insufficient_funds",
        "and 10 more",
        "Peak: 500 at",
    ] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

/// An outage that lasts: each task gets one attempt by the click, and then waits as its backoff says.
#[tokio::test(flavor = "multi_thread")]
async fn a_retried_task_that_fails_again_waits_for_its_backoff() {
    const TASKS: u64 = 1_000;
    let site = Site::on(MemoryBroker::new().into()).await;
    let archives = Arc::new(AtomicBool::new(true));
    let of_handler = Arc::clone(&archives);
    let away = move |_: Payload<Mail>, _: Context| {
        let archives = of_handler.load(Ordering::Relaxed);
        async move {
            match archives {
                true => Err(TaskError::skip_retry("421 try again")),
                false => Err::<(), _>(TaskError::retry("421 try again")),
            }
        }
    };
    let server = Server::builder(site.broker.clone());
    let server = server.queue("mail", 1).concurrency(64).log_failures(false);
    let server = server.process(away).start().await.expect("started");
    let producer = Producer::new(site.broker.clone());
    enqueue(
        &producer,
        vec![Mail { fails: true }; TASKS as usize],
        "mail",
    )
    .await;
    let inspector = &site.inspector;
    let are_all = async |state| {
        let info = inspector.queue(&"mail".into()).await.expect("a queue");
        info.stats.count(state) == TASKS
    };
    let archived = async || are_all(TaskState::Archived).await;
    eventually("all tasks are archived", archived).await;
    archives.store(false, Ordering::Relaxed);

    let reported = async || {
        let failures = site.read("/api/failures").await;
        in_total(&failures) >= TASKS
    };
    eventually("the failures are reported", reported).await;
    let failures = site.read("/api/failures").await;
    let cause = failures["causes"][0]["fingerprint"].as_str();
    let cause = format!("/failures/{}", cause.expect("a cause"));
    site.post(&cause, "do=retry").await;
    let wait = async || are_all(TaskState::Retry).await;
    eventually("all tasks have failed again", wait).await;
    let jobs = site.read("/api/jobs").await;
    assert!(
        jobs[0]["text"]
            .as_str()
            .is_some_and(|text| text.ends_with(": 1\u{202f}000 tasks queued to run.")),
        "{jobs}"
    );
    server.shutdown().await.expect("stopped");
}

/// The incident of an operator, in its true size. It takes a minute without optimisations.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute"]
async fn an_incident_with_50_000_failures_is_resolved() {
    let broker: SharedBroker = MemoryBroker::new().into();
    let incident = Incident {
        broken: 50_000,
        declined: 1_000,
        others: (17_000 / 13, 20),
    };
    incident.happen(&broker).await;
    let site = Site::on(broker).await;
    resolve(&site, &incident).await;
}

#[tokio::test]
async fn an_unknown_cause_is_not_found() {
    let site = Site::on(MemoryBroker::new().into()).await;
    for cause in ["0123456789abcdef", "nonsense"] {
        for path in ["/failures/", "/api/failures/"] {
            let (status, text) = site.get(&format!("{path}{cause}")).await;
            assert_eq!(status, 404, "{text}");
            assert!(text.contains(cause), "{text}");
        }
    }
    let page = site.page("/failures").await;
    assert!(
        page.contains("No attempt has failed in the last 24 hours."),
        "{page}"
    );
}
