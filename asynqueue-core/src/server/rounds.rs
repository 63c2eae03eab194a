//! Rounds: what each queue needs now and then, where a queue that fails waits by itself and holds up no other.

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

/// What each queue needs now and then.
pub(super) trait Chore: Send {
    /// What comes back of each queue.
    type Answer: Send + 'static;

    /// What it is, for messages.
    const DOING: &'static str;

    /// The longest time between two tries of a queue that fails.
    fn longest_wait(&self) -> Duration {
        Duration::MAX
    }

    /// Called before the calls of a round.
    fn begin(&mut self) {}

    /// One call for some queues. `fails`: the last call for them failed, and this one finds out whether they answer again.
    fn ask(
        &mut self,
        queues: Vec<Name>,
        fails: bool,
    ) -> BoxFuture<'static, Result<Each<Self::Answer>, BrokerError>>;

    /// Acts on the answer of one queue; returns when to ask again.
    fn act(&mut self, queue: &Name, answer: Self::Answer) -> Duration;

    /// Notes that a call for a queue failed.
    fn failed(&mut self, _queue: &Name) {}
}

/// Where the rounds are with one queue.
struct Turn {
    retrying: Retrying,
    next: Instant,
    /// Whether a call for it is under way.
    asked: bool,
    /// Whether it was woken since then.
    woken: bool,
}

/// What came back of a call for some queues.
struct Answered<T> {
    queues: Vec<usize>,
    answers: Result<Each<T>, BrokerError>,
}

struct Rounds<'a, C: Chore> {
    shared: &'a Shared,
    chore: C,
    turns: Vec<Turn>,
    calls: FuturesUnordered<BoxFuture<'static, Answered<C::Answer>>>,
}

impl Shared {
    /// Does a chore for each queue until the server stops: first after `first`, then as the chore says, and when it is
    /// `woken`.
    pub(super) async fn go_round(&self, chore: impl Chore, first: Duration, woken: &Notify) {
        let turn = |_: &Name| Turn {
            retrying: Retrying::new(doing(&chore)),
            next: Instant::now() + first,
            asked: false,
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
            rounds.ask_due();
            tokio::select! {
                () = &mut stopped => return,
                () = woken.notified() => rounds.wake(),
                () = rounds.next_due() => {}
                Some(answered) = rounds.calls.next() => {
                    if rounds.act(answered) == Goes::Over {
                        return;
                    }
                }
            }
            // What else has come back, before the queues are looked through again.
            while let Some(Some(answered)) = rounds.calls.next().now_or_never() {
                if rounds.act(answered) == Goes::Over {
                    return;
                }
            }
        }
    }
}

fn doing<C: Chore>(_: &C) -> &'static str {
    C::DOING
}

/// Whether there is a point in another round.
#[derive(PartialEq)]
enum Goes {
    On,
    Over,
}

impl<C: Chore> Rounds<'_, C> {
    /// Asks for what is due: in one call for all queues that answer, or one for each where they are kept apart. One that
    /// fails is asked for by itself, so that no other waits for it.
    fn ask_due(&mut self) {
        let now = Instant::now();
        let is_due = |turn: &Turn| !turn.asked && turn.next <= now;
        let due = |(place, turn): (usize, &Turn)| is_due(turn).then_some(place);
        let due: Vec<_> = self.turns.iter().enumerate().filter_map(due).collect();
        if due.is_empty() {
            return;
        }
        self.chore.begin();
        let apart = self.shared.broker.capabilities().is_partitioned;
        let is_alone = |place: &usize| apart || self.turns[*place].retrying.fails();
        let (alone, together): (Vec<_>, Vec<_>) = due.into_iter().partition(is_alone);
        if !together.is_empty() {
            self.ask(together);
        }
        for place in alone {
            self.ask(vec![place]);
        }
    }

    fn ask(&mut self, queues: Vec<usize>) {
        let mut fails = false;
        for place in &queues {
            let turn = &mut self.turns[*place];
            (turn.asked, turn.woken) = (true, false);
            fails |= turn.retrying.fails();
        }
        let names = queues
            .iter()
            .map(|place| self.shared.queue_names[*place].clone());
        let asking = self.chore.ask(names.collect(), fails);
        let asking = asking.map(|answers| Answered { queues, answers });
        self.calls.push(asking.boxed());
    }

    /// Acts on the answers of a call. It is over when the broker is closed.
    fn act(&mut self, answered: Answered<C::Answer>) -> Goes {
        let (mut answers, whole) = match answered.answers {
            Ok(answers) => (answers.into_iter(), short()),
            Err(error) => (Vec::new().into_iter(), error),
        };
        let (now, mut failed) = (Instant::now(), Vec::new());
        let mut last_error = None;
        for place in answered.queues {
            let (turn, queue) = (&mut self.turns[place], &self.shared.queue_names[place]);
            turn.asked = false;
            let wait = match answers.next().unwrap_or_else(|| Err(whole.clone())) {
                Ok(answer) => {
                    turn.retrying.worked_for(queue);
                    let wait = self.chore.act(queue, answer);
                    if turn.woken { Duration::ZERO } else { wait }
                }
                Err(error) if is_closed(&error) => return Goes::Over,
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
        Goes::On
    }

    /// Makes all queues that answer due.
    fn wake(&mut self) {
        let now = Instant::now();
        for turn in self.turns.iter_mut().filter(|turn| !turn.retrying.fails()) {
            turn.woken = true;
            turn.next = turn.next.min(now);
        }
    }

    /// Waits until a queue is due.
    fn next_due(&self) -> impl Future<Output = ()> + use<C> {
        let idle = self.turns.iter().filter(|turn| !turn.asked);
        let next = idle.map(|turn| turn.next).min();
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// As good as never: adding more to the time of now might overflow.
const FAR: Duration = Duration::from_secs(24 * 3600);

fn short() -> BrokerError {
    BrokerError::protocol("the broker gave fewer answers than there were questions")
}

impl Shared {
    /// As [`go_round`](Self::go_round), and nothing wakes it.
    pub(super) async fn go_round_alone(self: &Arc<Self>, chore: impl Chore, first: Duration) {
        self.go_round(chore, first, &Notify::new()).await;
    }
}
