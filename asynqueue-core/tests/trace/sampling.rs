//! Sampling decisions are kept across tasks, and baggage is propagated.

use std::sync::Arc;

use asynqueue_core::{
    memory::MemoryBroker,
    process::{Context, Payload, TaskError},
    producer::{Producer, TaskHandle},
    server::Server,
};
use asynqueue_macros::Task;
use opentelemetry::{Context as OtelContext, KeyValue, baggage::BaggageExt, trace::FutureExt};
use opentelemetry_sdk::trace::Sampler;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{Instrument, info_span};

use super::harness::Traced;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "first", retention = "1h", crate = asynqueue_core)]
struct First;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "second", retention = "1h", crate = asynqueue_core)]
struct Second;

/// What the handlers observed.
#[derive(Clone, Debug, Default)]
struct Seen {
    traceparents: Arc<Mutex<Vec<String>>>,
    tenants: Arc<Mutex<Vec<String>>>,
}

impl Seen {
    fn note(&self, ctx: &Context) {
        let traceparent = ctx.headers().get("traceparent").unwrap_or_default();
        self.traceparents.lock().push(traceparent.to_owned());
        let tenant = OtelContext::current()
            .baggage()
            .get("tenant")
            .map(ToString::to_string);
        self.tenants.lock().extend(tenant);
    }
}

/// Runs a first task, enqueued by `enqueue`, and a second one, enqueued by the first.
async fn run<F>(enqueue: impl FnOnce(Producer) -> F) -> Seen
where
    F: Future<Output = TaskHandle<First>>,
{
    let seen = Seen::default();
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let (done, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let first = {
        let (producer, seen) = (producer.clone(), seen.clone());
        move |_: Payload<First>, ctx: Context| {
            let (producer, seen) = (producer.clone(), seen.clone());
            async move {
                seen.note(&ctx);
                let work = async { producer.enqueue(Second).await };
                work.instrument(info_span!("work")).await?;
                Ok::<_, TaskError>(())
            }
        }
    };
    let second = {
        let seen = seen.clone();
        move |_: Payload<Second>, ctx: Context| {
            let (seen, done) = (seen.clone(), done.clone());
            async move {
                seen.note(&ctx);
                done.send(())
                    .map_err(|_| TaskError::skip_retry("no receiver"))
            }
        }
    };
    let server = Server::builder(broker).process(first).process(second);
    let server = server.start().await.expect("started");
    enqueue(producer).await.result().await.expect("done");
    ends.recv().await.expect("the second");
    server.shutdown().await.expect("stopped");
    seen
}

async fn enqueue(producer: Producer) -> TaskHandle<First> {
    producer.enqueue(First).await.expect("accepted")
}

fn trace_of(traceparent: &str) -> &str {
    &traceparent[3..35]
}

#[tokio::test]
async fn an_unsampled_trace_stays_unsampled_across_its_tasks() {
    let traced = Traced::with(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)), "trace");
    let seen = run(|producer| enqueue(producer).instrument(info_span!("request"))).await;
    assert_eq!(traced.tree(), [""; 0]);
    let traceparents = seen.traceparents.lock();
    assert!(
        traceparents.iter().all(|one| one.ends_with("-00")),
        "{traceparents:?}"
    );
    assert_eq!(trace_of(&traceparents[0]), trace_of(&traceparents[1]));
}

/// The span for log lines is filtered out for OpenTelemetry. What the handler starts stays unsampled all the same.
#[tokio::test]
async fn an_unsampled_trace_stays_unsampled_if_its_spans_are_disabled() {
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
    let traced = Traced::with(sampler, "trace,asynqueue::unsampled=off");
    let left_out = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    run(async |producer| {
        let task = producer.enqueue(First).header("traceparent", left_out);
        task.await.expect("accepted")
    })
    .await;
    assert_eq!(traced.tree(), ["send default"]);
}

/// The sampler would sample any new trace; an unsampled parent must not look like one.
#[tokio::test]
async fn a_trace_that_another_service_did_not_sample_is_not_sampled_here() {
    let traced = Traced::new();
    let left_out = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let seen = run(async |producer| {
        let task = producer.enqueue(First).header("traceparent", left_out);
        task.await.expect("accepted")
    })
    .await;
    // The producer's own span is not relevant here.
    assert_eq!(traced.tree(), ["send default"]);
    assert_eq!(seen.traceparents.lock()[0], left_out);
    assert_eq!(trace_of(&seen.traceparents.lock()[1]), trace_of(left_out));
}

/// If the task has no context, the first attempt decides.
#[tokio::test]
async fn a_task_that_its_first_attempt_did_not_sample_stays_unsampled_on_retry() {
    #[derive(Serialize, Deserialize, Task)]
    #[task(event = "fails", retention = "1h", backoff = fixed("1ms"), crate = asynqueue_core)]
    struct Fails;
    let broker = MemoryBroker::new();
    let producer = Producer::new(broker.clone());
    let task = producer
        .enqueue(Fails)
        .max_retry(2)
        .await
        .expect("accepted");
    let traced = Traced::with(Sampler::ParentBased(Box::new(Sampler::AlwaysOff)), "trace");
    let seen = Seen::default();
    let noted = seen.clone();
    let fails = move |_: Payload<Fails>, ctx: Context| {
        noted.note(&ctx);
        async { Err::<(), _>(TaskError::retry("no")) }
    };
    let server = Server::builder(broker).process(fails);
    let server = server.start().await.expect("started");
    task.result().await.expect_err("archived");
    server.shutdown().await.expect("stopped");
    let traceparents = seen.traceparents.lock();
    let [first, second, third] = &traceparents[..] else {
        panic!("three attempts: {traceparents:?}");
    };
    assert_eq!((first.as_str(), second), ("", third));
    assert!(second.ends_with("-00"), "{second}");
    assert_eq!(traced.tree(), [""; 0]);
}

#[tokio::test]
async fn a_context_set_by_the_caller_is_kept() {
    let traced = Traced::new();
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    run(async |producer| {
        let task = producer.enqueue(First).header("traceparent", given);
        task.await.expect("accepted")
    })
    .await;
    let processed = &traced.named("process default")[0];
    assert_eq!(
        processed.span_context.trace_id().to_string(),
        trace_of(given)
    );
    assert_eq!(processed.parent_span_id.to_string(), "b7ad6b7169203331");
}

#[tokio::test]
async fn an_invalid_context_is_ignored_and_starts_a_new_trace() {
    for broken in [
        "",
        "00-nonsense",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0x",
    ] {
        let traced = Traced::new();
        run(async |producer| {
            let task = producer.enqueue(First).header("traceparent", broken);
            task.await.expect("accepted")
        })
        .await;
        assert!(
            traced.tree().contains(&"process default".to_owned()),
            "{broken}"
        );
    }
}

#[tokio::test]
async fn baggage_is_propagated_to_the_task_and_to_the_next_one() {
    let _traced = Traced::new();
    let seen = run(|producer| {
        let tenant = OtelContext::current_with_baggage([KeyValue::new("tenant", "acme")]);
        enqueue(producer).with_context(tenant)
    })
    .await;
    assert_eq!(*seen.tenants.lock(), ["acme", "acme"]);
}

#[tokio::test]
async fn a_trace_continues_if_the_spans_of_tasks_are_disabled() {
    let sampler = Sampler::ParentBased(Box::new(Sampler::AlwaysOn));
    let traced = Traced::with(sampler, "info,asynqueue_core=off");
    run(|producer| enqueue(producer).instrument(info_span!("request"))).await;
    assert_eq!(traced.tree(), ["request", "request > work"]);
}

#[tokio::test]
async fn nothing_is_propagated_without_tracing() {
    let seen = run(enqueue).await;
    assert_eq!(*seen.traceparents.lock(), ["", ""]);
}
