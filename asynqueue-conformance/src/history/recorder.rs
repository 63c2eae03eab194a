//! Records calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{Leased, TaskInfo},
    task::{Envelope, Failure, FailureKind},
};
use parking_lot::Mutex;

use super::{
    History,
    call::{Answer, Call, Client, Request},
    spec::NOW,
    subject::Subject,
};

/// Makes calls, and records requests and responses. A call that is dropped before its response has an unknown outcome.
///
/// The store stamps a cancelled task with its own time. The recorder replaces it with a fixed one, in its records and
/// in what it returns, so that a specification without a clock can predict the task.
#[derive(Debug)]
pub struct Recorder {
    moments: AtomicU64,
    calls: Mutex<Vec<Call>>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl Recorder {
    /// A recorder without calls. A history starts with it.
    pub fn new() -> Self {
        Self {
            moments: AtomicU64::new(0),
            calls: Mutex::default(),
        }
    }

    /// Makes a call. Returns the response, or `None` if it failed.
    pub async fn call<S: Subject + ?Sized>(
        &self,
        client: Client,
        subject: &S,
        request: Request,
    ) -> Option<Answer> {
        let under_way = self.begin(client, request.clone());
        let answer = subject.perform(&client.worker(), &request).await;
        let answer = answer.map(without_times).map_err(|error| error.to_string());
        under_way.end(answer.clone());
        answer.ok()
    }

    fn begin(&self, client: Client, request: Request) -> UnderWay<'_> {
        let mut calls = self.calls.lock();
        calls.push(Call {
            client,
            begin: self.moments.fetch_add(1, SeqCst),
            end: None,
            took: Duration::ZERO,
            request,
            answer: None,
        });
        UnderWay {
            recorder: self,
            place: calls.len() - 1,
            began: Instant::now(),
        }
    }

    /// All calls so far.
    pub fn history(&self) -> History {
        History::new(self.calls.lock().clone())
    }
}

/// A call in progress. If it is dropped before its end, it is cut off.
struct UnderWay<'a> {
    recorder: &'a Recorder,
    place: usize,
    began: Instant,
}

impl UnderWay<'_> {
    fn end(self, answer: Result<Answer, String>) {
        let mut calls = self.recorder.calls.lock();
        let call = &mut calls[self.place];
        call.end = Some(self.recorder.moments.fetch_add(1, SeqCst));
        call.answer = Some(answer);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        self.recorder.calls.lock()[self.place].took = took;
    }
}

fn without_times(mut answer: Answer) -> Answer {
    match &mut answer {
        Answer::Leased(queues) => {
            for leased in queues.iter_mut().flatten().flatten() {
                let since = leased.pending_since;
                let envelope = without_time(&leased.envelope);
                *leased = Leased::new(envelope, leased.token, leased.now);
                leased.pending_since = since;
            }
        }
        Answer::Looked(tasks) => {
            for TaskInfo { envelope, .. } in tasks.iter_mut().flatten() {
                *envelope = without_time(envelope);
            }
        }
        _ => {}
    }
    answer
}

/// The envelope with the time at which the model would have cancelled it.
fn without_time(envelope: &Arc<Envelope>) -> Arc<Envelope> {
    let is_stamped = |failure: &Failure| failure.kind == FailureKind::Cancelled;
    if !envelope.failures().iter().any(is_stamped) {
        return Arc::clone(envelope);
    }
    let (id, event, codec) = (&envelope.id, &envelope.event, &envelope.codec);
    let mut new = Envelope::new(
        id.clone(),
        event.clone(),
        codec.clone(),
        envelope.payload.clone(),
    );
    new.queue = envelope.queue.clone();
    new.options = Arc::clone(&envelope.options);
    new.headers = envelope.headers.clone();
    new.enqueued_at = envelope.enqueued_at;
    new.deadline = envelope.deadline;
    new.unique.clone_from(&envelope.unique);
    new.attempts = envelope.attempts;
    for mut failure in envelope.failures().iter().cloned() {
        if is_stamped(&failure) {
            failure.at = NOW;
        }
        new.push_failure(failure);
    }
    Arc::new(new)
}
