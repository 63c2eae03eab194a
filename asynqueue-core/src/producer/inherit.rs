//! The producer of a handler, and the headers that its tasks inherit from the running task.

use super::Producer;
use crate::{
    broker::NewTask,
    process::Context,
    task::Headers,
    trace::{self, is_trace_header},
};

/// The prefix of headers reserved for the framework. They concern only the task that has them.
const RESERVED: &str = "asynqueue-";

/// What a task inherits from the task whose handler enqueues it.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// The headers set by callers.
    headers: Headers,
    /// The headers of the trace. Separate, because the span of enqueueing replaces them if there is one.
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

    /// The headers of a call together with the inherited ones.
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

    /// Adds the trace to tasks that have none from their call or a span.
    pub(super) fn keep_trace(&self, tasks: &mut [NewTask]) {
        if !self.trace.is_empty() {
            for task in tasks {
                trace::inherit(&mut task.envelope.headers, &self.trace);
            }
        }
    }
}

impl Context {
    /// A producer on the server's broker, for handlers that enqueue tasks. Tasks and events that it enqueues or
    /// publishes inherit from this task:
    ///
    /// - the headers, except the ones that start with `asynqueue-`. A `.header(…)` of the call replaces an inherited
    ///   one of the same key;
    /// - the trace: `traceparent`, `tracestate` and `baggage`. With the feature `otel` they name the span that
    ///   enqueues, as for every producer. Without such a span, the task's own trace is passed on. A call that sets
    ///   `traceparent` inherits none of the three.
    ///
    /// Nothing else is inherited: queue, priority, deadline and other options are those of the new task's type. A
    /// handler with a [`Producer`] argument receives this one. For a producer without inheritance or with other
    /// limits, share one as [`state`](crate::server::ServerBuilder::state).
    ///
    /// Each call creates a producer, with one allocation. Closing it does not affect others.
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
    fn reserved_headers_are_not_inherited() {
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
