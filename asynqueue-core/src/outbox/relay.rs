//! The relay: takes entries, sends them to the broker queue by queue, and records their outcome.

use std::{collections::HashMap, fmt, future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Done, Entry, Outbox, OutboxError, Take, Taken,
    queues::Queues,
    report::Reporter,
    send::{Relayed, Sent, send},
};
use crate::{
    ambient,
    broker::SharedBroker,
    metrics::{self, Enqueueing},
    server::is_closed,
    task::{Name, TaskId},
};

/// How long a relay that died keeps others from its turn, unless set.
const TURN: Duration = Duration::from_secs(10);

/// The shortest turn.
const SHORTEST_TURN: Duration = Duration::from_secs(1);

/// How often to look for entries that were not signalled, and for the end of another relay's turn.
const POLL: Duration = Duration::from_secs(1);

/// How many entries are taken together, about how many bytes of them, and how many entries are being sent.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
const IN_FLIGHT: usize = 4 * BATCH;

/// How long a relay that is stopped waits for calls in progress. The next relay repeats those that were cut off.
const LAST_CALLS: Duration = Duration::from_secs(2);

/// The first and the longest wait after an error of the outbox.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Moves the tasks of an [`Outbox`] to a broker: in the [order](Outbox) of the entries of each queue, under their ids, each
/// accepted once. Run it in any number of processes: one of them relays, and another takes over within ten seconds after
/// it has died.
///
/// A task that the broker refuses because its id is taken or its unique lock is held is removed and logged. One that the
/// broker rejects for itself, for example for its size, is kept as failed, and those behind it are relayed. While a queue
/// cannot be reached, its entries wait, and those of other queues are relayed.
///
/// `App::outbox` runs a relay. To run one without an app:
///
/// ```
/// # async fn example(outbox: std::sync::Arc<dyn asynqueue_core::outbox::Outbox>) {
/// use asynqueue_core::{memory::MemoryBroker, outbox::Relay};
///
/// let relay = Relay::new(MemoryBroker::new(), outbox).start();
/// relay.shutdown().await;
/// # }
/// ```
#[must_use = "a relay does nothing until it runs"]
pub struct Relay {
    broker: SharedBroker,
    outbox: Arc<dyn Outbox>,
    turn_time: Duration,
    /// Names this relay in the outbox while it has the turn.
    name: Name,
    /// The id of the outbox while this relay has the turn.
    turn: Option<Name>,
    queues: Queues,
    /// Calls of the broker.
    sending: FuturesUnordered<BoxFuture<'static, Sent>>,
    /// What is to be recorded in the outbox.
    sent: Vec<Sent>,
    reporter: Reporter,
    /// Consecutive errors of the outbox.
    failures: u32,
}

impl Relay {
    /// A relay from `outbox` to `broker`.
    pub fn new(broker: impl Into<SharedBroker>, outbox: impl Into<Arc<dyn Outbox>>) -> Self {
        let (broker, outbox) = (broker.into(), outbox.into());
        Self {
            reporter: Reporter::new(&broker, &outbox),
            broker,
            outbox,
            turn_time: TURN,
            name: new_name(),
            turn: None,
            queues: Queues::default(),
            sending: FuturesUnordered::new(),
            sent: Vec::new(),
            failures: 0,
        }
    }

    /// Sets how long after the death of this relay another one takes over. While there is nothing to relay, this one
    /// writes to the database about twice in that time. Default 10 s. A shorter time than a second counts as one.
    pub fn turn(mut self, time: Duration) -> Self {
        self.turn_time = time.max(SHORTEST_TURN);
        self
    }

    /// Starts the relay in the background.
    pub fn start(self) -> RelayHandle {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let running = tokio::spawn(ambient::here(self.run(stopped)));
        let running = Some(running);
        RelayHandle { stop, running }
    }

    /// Runs until `shutdown` completes or the broker is closed. Waits while the broker or the outbox is unavailable.
    pub async fn run(mut self, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        let mut next = Instant::now();
        let mut may_change = false;
        loop {
            let is_reporting = self.reporter.is_busy();
            tokio::select! {
                () = &mut shutdown => break,
                Some(sent) = self.sending.next(), if !self.sending.is_empty() => {
                    let is_closed = sent.error.as_ref().is_some_and(is_closed);
                    self.sent.push(sent);
                    if is_closed {
                        break;
                    }
                }
                reported = self.reporter.next(), if is_reporting => {
                    if reported.as_ref().is_err_and(is_closed) {
                        break;
                    }
                }
                () = self.outbox.changed(), if may_change => {}
                () = sleep_until(next) => {}
            }
            let stepped = {
                let step = self.step();
                tokio::pin!(step);
                tokio::select! {
                    stepped = &mut step => stepped,
                    () = &mut shutdown => {
                        let _ = timeout(LAST_CALLS, step).await;
                        break;
                    }
                }
            };
            let wait = self.wait_after(stepped);
            may_change = self.turn.is_some() && self.failures == 0;
            next = Instant::now() + wait;
        }
        self.end().await;
    }

    /// Records outcomes, takes entries, and starts to send them. Returns how long to wait for the next step unless
    /// something happens before. It may be cut off at any point.
    async fn step(&mut self) -> Result<Duration, OutboxError> {
        self.record().await?;
        let except = self.queues.closed();
        let take = Take {
            relay: &self.name,
            turn: self.turn_time,
            except: &except,
            limit: BATCH.min(IN_FLIGHT - self.queues.in_flight().min(IN_FLIGHT)),
            bytes: BATCH_BYTES,
        };
        let (outbox, entries, more) = match self.outbox.take(&take).await? {
            Taken::Busy => {
                self.lose_turn();
                return Ok(POLL);
            }
            Taken::Turn {
                outbox,
                is_new,
                entries,
                more,
            } => {
                if is_new {
                    self.begin_turn(&outbox);
                }
                (outbox, entries, more)
            }
        };
        let is_idle = entries.is_empty();
        for (queue, entries) in by_queue(entries) {
            self.queues.begin(&queue, entries.len());
            let sending = send(Arc::clone(&self.broker), outbox.clone(), queue, entries);
            self.sending.push(Box::pin(sending));
        }
        let due = self.reporter.report(&outbox, self.queues.error()).await?;
        // The queues that entries were taken for are closed now, so that another step finds those of others.
        let wait = if more && !is_idle {
            Duration::ZERO
        } else {
            // Often enough to extend the turn.
            POLL.min(self.turn_time / 4)
        };
        let rested = self.queues.next_rested();
        let rested = rested.map_or(wait, |rested| {
            rested.saturating_duration_since(Instant::now())
        });
        Ok(wait.min(rested).min(due))
    }

    /// Records the outcome of what was sent.
    async fn record(&mut self) -> Result<(), OutboxError> {
        if self.sent.is_empty() {
            return Ok(());
        }
        let results = self.sent.iter().flat_map(|sent| &sent.results);
        let done: Vec<Done> = results.map(|result| result.done()).collect();
        if !done.is_empty() && !self.outbox.finish(&self.name, &done).await? {
            self.lose_turn();
            return Ok(());
        }
        for sent in std::mem::take(&mut self.sent) {
            self.queues.end(&sent);
            self.note(&sent);
        }
        Ok(())
    }

    /// Logs and counts what is recorded.
    fn note(&mut self, sent: &Sent) {
        let (outbox, queue) = (self.outbox.name(), &sent.queue);
        let mut counts = [("accepted", 0_usize), ("refused", 0), ("failed", 0)];
        let mut counted: HashMap<&Name, Enqueueing> = HashMap::new();
        for result in &sent.results {
            let (id, entry) = (&result.id, result.place);
            let place = match &result.result {
                Relayed::Accepted => 0,
                Relayed::Refused(conflict) => {
                    tracing::info!(%outbox, %queue, %id, entry, reason = %conflict,
                        "the broker refused a task of the outbox; its entry is removed");
                    1
                }
                Relayed::Failed(reason) => {
                    tracing::error!(%outbox, %queue, %id, entry, reason,
                        "an entry of the outbox failed; it is kept, and the next ones are relayed");
                    2
                }
            };
            counts[place].1 += 1;
            let of_event = counted.entry(&result.event);
            let of_event = of_event.or_insert_with_key(|event| Enqueueing::of(queue, event));
            of_event.add(result.counted(), 1);
        }
        for (result, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            metrics::relayed(outbox, result, count);
        }
        self.reporter.count(counts[0].1 as u64, counts[1].1 as u64);
    }

    fn begin_turn(&mut self, outbox: &Name) {
        self.forget_calls();
        tracing::info!(outbox = %self.outbox.name(), id = %outbox, "relaying the outbox");
        self.turn = Some(outbox.clone());
        self.reporter.begin();
    }

    fn lose_turn(&mut self) {
        self.forget_calls();
        if self.turn.take().is_some() {
            tracing::info!(outbox = %self.outbox.name(), "another relay has taken over the outbox; standing by");
            self.reporter.end();
            self.name = new_name();
        }
    }

    /// Forgets the calls of a turn. Results of calls in progress are dropped: the relay that has the turn sends these
    /// entries again.
    fn forget_calls(&mut self) {
        self.sending = FuturesUnordered::new();
        self.sent.clear();
        self.queues = Queues::default();
    }

    /// How long to wait after a step.
    fn wait_after(&mut self, stepped: Result<Duration, OutboxError>) -> Duration {
        let outbox = self.outbox.name();
        match stepped {
            Ok(wait) => {
                if self.failures > 0 {
                    let failures = std::mem::take(&mut self.failures);
                    tracing::info!(%outbox, failures, "the outbox is responding again");
                }
                wait
            }
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(%outbox, %error, "the outbox is not responding; retrying");
                }
                metrics::outbox_failed(outbox);
                let full = FIRST_RETRY.saturating_mul(2_u32.saturating_pow(self.failures));
                self.failures = self.failures.saturating_add(1);
                full.min(LAST_RETRY)
                    .mul_f64(0.5 + ambient::random::<f64>() / 2.0)
            }
        }
    }

    /// Lets calls in progress end, records their outcome and leaves the turn to another relay.
    async fn end(mut self) {
        let last = async {
            while let Some(sent) = self.sending.next().await {
                self.sent.push(sent);
            }
        };
        let _ = timeout(LAST_CALLS, last).await;
        let leave = async {
            self.record().await?;
            self.outbox.leave(&self.name).await
        };
        if let Ok(Err(error)) = timeout(LAST_CALLS, leave).await {
            tracing::debug!(outbox = %self.outbox.name(), %error, "could not leave the turn; another relay takes it over later");
        }
        self.reporter.end();
    }
}

/// The entries of each queue, in their order.
fn by_queue(entries: Vec<Entry>) -> Vec<(Name, Vec<Entry>)> {
    let mut queues: Vec<(Name, Vec<Entry>)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for entry in entries {
        let place = *places
            .entry(entry.task.queue.clone())
            .or_insert_with_key(|queue| {
                queues.push((Name::from(queue.as_str()), Vec::new()));
                queues.len() - 1
            });
        queues[place].1.push(entry);
    }
    queues
}

fn new_name() -> Name {
    Name::from(TaskId::generate().as_str())
}

/// A running relay. It stops when this is dropped.
#[derive(Debug)]
#[must_use = "the relay stops when this is dropped"]
pub struct RelayHandle {
    stop: CancellationToken,
    running: Option<JoinHandle<()>>,
}

impl RelayHandle {
    /// Stops the relay after its current calls, or after a few seconds. The next relay repeats calls that were cut off.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        // The panic was reported where it happened.
        let _ = self.ended().await;
    }

    /// Waits until the relay stops by itself, which it does when the broker is closed or it panics.
    ///
    /// # Errors
    ///
    /// When it panicked.
    pub async fn ended(&mut self) -> Result<(), RelayError> {
        let Some(running) = &mut self.running else {
            return Ok(());
        };
        let ended = running.await.map_err(|error| RelayError {
            message: error.to_string(),
        });
        // Only after the wait: a caller that stops waiting here may wait again, or shut down.
        self.running = None;
        ended
    }
}

impl Drop for RelayHandle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A relay panicked.
#[derive(thiserror::Error)]
#[error("the relay of an outbox panicked: {message}")]
pub struct RelayError {
    message: String,
}

crate::debug_as_text!(RelayError);

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relay")
            .field("outbox", &self.outbox)
            .finish_non_exhaustive()
    }
}
