//! Periodic work per queue. A failing queue is retried separately and does not delay the others.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::Notify, time::Instant};

use super::{
    Shared, is_closed,
    retrying::{Retrying, log_failed},
};
use crate::{
    broker::{BrokerError, Each},
    task::Name,
};

/// Periodic work on each queue.
pub(super) trait Chore: Send {
    /// The result for one queue.
    type Output: Send + 'static;

    /// The name of the work in log lines.
    const DOING: &'static str;

    /// The longest time between two attempts for a failing queue.
    fn longest_wait(&self) -> Duration {
        Duration::MAX
    }

    /// Called before the calls of a round.
    fn start_round(&mut self) {}

    /// Makes one call for some queues. `fails`: the last call failed, and this one checks whether the queue has
    /// recovered.
    fn call(
        &mut self,
        queues: Vec<Name>,
        fails: bool,
    ) -> BoxFuture<'static, Result<Each<Self::Output>, BrokerError>>;

    /// Acts on the result for one queue. Returns when to call again.
    fn act(&mut self, queue: &Name, result: Self::Output) -> Duration;

    /// Called when a call failed for a queue.
    fn failed(&mut self, _queue: &Name) {}
}

/// The state of one queue.
struct Turn {
    retrying: Retrying,
    next: Instant,
    /// Whether a call for it is under way.
    calling: bool,
    /// Whether it was woken during that call.
    woken: bool,
}

/// The response to a call for some queues.
struct Response<T> {
    queues: Vec<usize>,
    results: Result<Each<T>, BrokerError>,
}

struct Rounds<'a, C: Chore> {
    shared: &'a Shared,
    chore: C,
    turns: Vec<Turn>,
    calls: FuturesUnordered<BoxFuture<'static, Response<C::Output>>>,
}

impl Shared {
    /// Does a chore for each queue until the server stops: first after `first`, then at the intervals that the chore
    /// returns, and whenever `woken` is notified.
    pub(super) async fn run_chore(&self, chore: impl Chore, first: Duration, woken: &Notify) {
        let turn = |_: &Name| Turn {
            retrying: Retrying::new(doing(&chore)),
            next: Instant::now() + first,
            calling: false,
            woken: false,
        };
        let turns = self.queue_names.iter().map(turn).collect();
        let mut rounds = Rounds {
            shared: self,
            chore,
            turns,
            calls: FuturesUnordered::new(),
        };
        let mut stopped = pin!(self.stopped.cancelled());
        loop {
            rounds.call_due();
            tokio::select! {
                () = &mut stopped => return,
                () = woken.notified() => rounds.wake(),
                () = rounds.next_due() => {}
                Some(response) = rounds.calls.next() => {
                    if rounds.act(response) == Flow::Stop {
                        return;
                    }
                }
            }
            // Take in all other completed calls before looking for due queues again.
            while let Some(Some(response)) = rounds.calls.next().now_or_never() {
                if rounds.act(response) == Flow::Stop {
                    return;
                }
            }
        }
    }
}

fn doing<C: Chore>(_: &C) -> &'static str {
    C::DOING
}

/// Whether to continue after a response.
#[derive(PartialEq)]
enum Flow {
    Continue,
    Stop,
}

impl<C: Chore> Rounds<'_, C> {
    /// Makes the calls that are due: one call for all healthy queues, or one per queue if the broker is partitioned. A
    /// failing queue gets its own call, so that no other waits for it.
    fn call_due(&mut self) {
        let now = Instant::now();
        let is_due = |turn: &Turn| !turn.calling && turn.next <= now;
        let due = |(place, turn): (usize, &Turn)| is_due(turn).then_some(place);
        let due: Vec<_> = self.turns.iter().enumerate().filter_map(due).collect();
        if due.is_empty() {
            return;
        }
        self.chore.start_round();
        let partitioned = self.shared.broker.capabilities().is_partitioned;
        let is_alone = |place: &usize| partitioned || self.turns[*place].retrying.fails();
        let (alone, together): (Vec<_>, Vec<_>) = due.into_iter().partition(is_alone);
        if !together.is_empty() {
            self.call(together);
        }
        for place in alone {
            self.call(vec![place]);
        }
    }

    fn call(&mut self, queues: Vec<usize>) {
        let mut fails = false;
        for place in &queues {
            let turn = &mut self.turns[*place];
            (turn.calling, turn.woken) = (true, false);
            fails |= turn.retrying.fails();
        }
        let names = queues
            .iter()
            .map(|place| self.shared.queue_names[*place].clone());
        let call = self.chore.call(names.collect(), fails);
        let call = call.map(|results| Response { queues, results });
        self.calls.push(call.boxed());
    }

    /// Acts on a response. The chore stops when the broker is closed.
    fn act(&mut self, response: Response<C::Output>) -> Flow {
        let (mut results, missing) = match response.results {
            Ok(results) => (results.into_iter(), short()),
            Err(error) => (Vec::new().into_iter(), error),
        };
        let (now, mut failed) = (Instant::now(), Vec::new());
        let mut last_error = None;
        for place in response.queues {
            let (turn, queue) = (&mut self.turns[place], &self.shared.queue_names[place]);
            turn.calling = false;
            let wait = match results.next().unwrap_or_else(|| Err(missing.clone())) {
                Ok(result) => {
                    turn.retrying.worked_for(queue);
                    let wait = self.chore.act(queue, result);
                    if turn.woken { Duration::ZERO } else { wait }
                }
                Err(error) if is_closed(&error) => return Flow::Stop,
                Err(error) => {
                    if !turn.retrying.fails() {
                        failed.push(queue.clone());
                        last_error = Some(error);
                    }
                    self.chore.failed(queue);
                    turn.retrying.wait().min(self.chore.longest_wait())
                }
            };
            turn.next = now + wait.min(FAR);
        }
        if let Some(error) = last_error {
            log_failed(C::DOING, &failed, &error);
        }
        Flow::Continue
    }

    /// Makes all healthy queues due.
    fn wake(&mut self) {
        let now = Instant::now();
        for turn in self.turns.iter_mut().filter(|turn| !turn.retrying.fails()) {
            turn.woken = true;
            turn.next = turn.next.min(now);
        }
    }

    /// Waits until a queue is due.
    fn next_due(&self) -> impl Future<Output = ()> + use<C> {
        let idle = self.turns.iter().filter(|turn| !turn.calling);
        let next = idle.map(|turn| turn.next).min();
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// Practically never. A longer wait could overflow when added to the current time.
const FAR: Duration = Duration::from_secs(24 * 3600);

fn short() -> BrokerError {
    BrokerError::protocol("expected one result per queue")
}

impl Shared {
    /// As [`run_chore`](Self::run_chore), without a wake-up.
    pub(super) async fn run_chore_by_timer(self: &Arc<Self>, chore: impl Chore, first: Duration) {
        self.run_chore(chore, first, &Notify::new()).await;
    }
}
