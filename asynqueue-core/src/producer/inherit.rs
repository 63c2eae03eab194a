//! The producer of a handler, and the headers that its tasks inherit from the task that enqueues them.

use super::Producer;
use crate::{
    broker::NewTask,
    process::Context,
    task::Headers,
    trace::{self, is_trace_header},
};

/// Headers that the framework keeps for itself begin with this: they concern the one task that has them.
const RESERVED: &str = "asynqueue-";

/// What a task takes over from the one whose handler enqueues it.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// The caller's own.
    headers: Headers,
    /// Those of the trace. Apart, since the span of enqueueing takes their place where there is one.
    trace: Headers,
}

impl Inherited {
    fn of(headers: &Headers) -> Self {
        let is_own = |key: &str| !key.starts_with(RESERVED) && !is_trace_header(key);
        let own = match headers.iter().all(|(key, _)| is_own(key)) {
            true => headers.clone(),
            false => headers.iter().filter(|(key, _)| is_own(key)).collect(),
        };
        let trace = headers.iter().filter(|(key, _)| is_trace_header(key));
        Self {
            headers: own,
            trace: trace.collect(),
        }
    }

    /// The headers of a call, and what it inherits beside them.
    pub(super) fn with(&self, mut call: Headers) -> Headers {
        if call.is_empty() {
            return self.headers.clone();
        }
        for (key, value) in self.headers.iter() {
            if call.get(key).is_none() {
                call.insert(key, value);
            }
        }
        call
    }

    /// Keeps tasks in the trace, where neither their caller nor a span has given them one.
    pub(super) fn keep_trace(&self, tasks: &mut [NewTask]) {
        if !self.trace.is_empty() {
            for task in tasks {
                trace::inherit(&mut task.envelope.headers, &self.trace);
            }
        }
    }
}

impl Context {
    /// A producer on the server's own broker, for handlers that enqueue. What it enqueues or publishes inherits from this
    /// task:
    ///
    /// - the headers, apart from those that begin with `asynqueue-`. A `.header(…)` of the call replaces one of the same key;
    /// - the trace: `traceparent`, `tracestate` and `baggage`. With the feature `otel` they name the span that enqueues, as for
    ///   every producer. A task whose handler runs without such a span passes on its own. A call that sets `traceparent`
    ///   inherits none of the three.
    ///
    /// Nothing else is inherited: queue, priority, deadline and the like are those of the new task's type. A handler that takes a
    /// [`Producer`] as an argument is given this one. For a producer that passes on nothing or has other limits, share one by
    /// [`state`](crate::server::ServerBuilder::state).
    ///
    /// Each call makes a producer, at the cost of one allocation. Closing it concerns no other.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{
    ///     memory::MemoryBroker,
    ///     process::{Payload, TaskError},
    ///     producer::Producer,
    ///     server::Server,
    /// };
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "order", crate = asynqueue_core)]
    /// # struct Order;
    /// # #[derive(serde::Serialize, serde::Deserialize, asynqueue_macros::Task)]
    /// # #[task(event = "mail", crate = asynqueue_core)]
    /// # struct Mail;
    /// async fn order(_: Payload<Order>, producer: Producer) -> Result<(), TaskError> {
    ///     producer.enqueue(Mail).await?; // has the header `tenant` too
    ///     Ok(())
    /// }
    ///
    /// let broker = MemoryBroker::new();
    /// let server = Server::builder(broker.clone()).process(order).start().await?;
    /// Producer::new(broker).enqueue(Order).header("tenant", "acme").result().await?;
    /// # server.shutdown().await?;
    /// # Ok(()) }
    /// ```
    pub fn producer(&self) -> Producer {
        Producer::inheriting(self.broker().clone(), Inherited::of(self.headers()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        broker::When,
        codec::{CodecName, MessagePack},
        task::{Envelope, TaskId},
    };

    const PARENT: (&str, &str) = ("traceparent", "00-a-b-01");

    fn inherited(pairs: &[(&str, &str)]) -> Inherited {
        Inherited::of(&pairs.iter().copied().collect())
    }

    fn task(headers: &[(&str, &str)]) -> NewTask {
        let codec = CodecName::of::<MessagePack>();
        let mut envelope = Envelope::new(TaskId::generate(), "event", codec, Bytes::new());
        envelope.headers = headers.iter().copied().collect();
        NewTask::new(envelope, When::Now)
    }

    fn pairs(headers: &Headers) -> Vec<(&str, &str)> {
        headers.iter().collect()
    }

    #[test]
    fn a_header_of_the_call_replaces_the_inherited_one() {
        let inherited = inherited(&[("tenant", "acme"), ("user", "ada")]);
        let headers = inherited.with(Headers::from_iter([("tenant", "other"), ("x", "y")]));
        let expected = [("tenant", "other"), ("user", "ada"), ("x", "y")];
        assert_eq!(pairs(&headers), expected);
    }

    #[test]
    fn what_concerns_the_running_task_alone_is_not_inherited() {
        let inherited = inherited(&[("asynqueue-links", "l"), ("tenant", "acme"), PARENT]);
        assert_eq!(
            pairs(&inherited.with(Headers::default())),
            [("tenant", "acme")]
        );
    }

    #[test]
    fn the_trace_is_inherited_unless_the_task_has_one() {
        let inherited = inherited(&[PARENT, ("tracestate", "a=b"), ("baggage", "c=d")]);
        let own = ("traceparent", "00-c-d-01");
        let mut tasks = [task(&[]), task(&[own])];
        inherited.keep_trace(&mut tasks);
        let expected = [("baggage", "c=d"), PARENT, ("tracestate", "a=b")];
        assert_eq!(pairs(&tasks[0].envelope.headers), expected);
        assert_eq!(pairs(&tasks[1].envelope.headers), [own]);
    }
}
