//! The way to Redis: connections that are held, given up and made again.

mod clock;
mod connection;
mod denied;
mod durable;
mod error;
mod io;
mod listen;
mod nodes;
mod server;
mod shards;
mod slots;
mod target;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls/off.rs"]
mod tls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{BrokerError, Durability},
    task::Timestamp,
};
use redis::{Arg, Cmd, Value};
use tokio_util::sync::CancellationToken;

pub use self::error::ConnectError;
use self::{
    clock::ServerClock,
    connection::{Holder, Source},
    denied::{Denied, User},
    durable::DurableCalls,
    error::Reaction,
    listen::Listeners,
    server::ServerInfo,
    shards::Shards,
    target::Target,
};
pub(crate) use self::{io::spawn, listen::Message};
use crate::{
    meter,
    options::{RedisOptions, Topology},
};

/// The first wait before a call is tried again; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Connections to Redis. Clones share them.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    /// Where Redis is, for messages.
    address: String,
    user: User,
    retry_for: Duration,
    /// How long a caller waits at most.
    patience: Duration,
    response_timeout: Duration,
    clock: ServerClock,
    server: ServerInfo,
    /// The connections that calls go by, in turn.
    holders: Vec<Holder>,
    turn: AtomicUsize,
    durable: DurableCalls,
    /// The ways to the shards of a Cluster, for commands with keys.
    shards: Option<Shards>,
    listeners: Listeners,
    /// Whether the last call did not get through.
    is_away: AtomicBool,
    closed: CancellationToken,
}

/// Whether a call is sent for the first time, or may have been carried out before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    First,
    Again,
}

/// What marks a bound of a first try, and of another.
const FIRST: char = '<';
const AGAIN: char = '!';

/// Whether an argument is a [bound](Link::not_after), rather than a clock that a test has set.
fn is_bound(arg: &[u8]) -> bool {
    let is_mark = |byte: &u8| [FIRST, AGAIN].contains(&char::from(*byte));
    (arg.split_first())
        .is_some_and(|(mark, time)| is_mark(mark) && time.iter().all(u8::is_ascii_digit))
}

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The script of an `EVALSHA` is not known: send it with `EVAL`.
    NoScript,
    /// The user has no permission for it.
    Denied(Denied),
    /// Anything else.
    Broker(BrokerError),
}

impl Link {
    /// Connects, and checks that this is a Redis to keep tasks in.
    pub(crate) async fn open(options: RedisOptions) -> Result<Self, ConnectError> {
        meter::begin();
        let target = Arc::new(Target::new(&options)?);
        let source = Source::new(&options, &target)?;
        let holders: Vec<_> = (0..options.pool_size)
            .map(|_| Holder::new(source.clone()))
            .collect();
        let address = options.address();
        let user = User {
            name: options.login.user.clone().unwrap_or("default".into()),
            prefix: options.prefix.clone(),
        };
        if source.is_users() {
            server::check_pool(&holders, &options, &user).await?;
        }
        let server = ServerInfo::ask(&holders, &options, &user).await?;
        // Those of a user's pool are to be used as they are.
        let has_shards = matches!(options.topology, Topology::Cluster) && options.pool.is_none();
        let shards = has_shards.then(|| Shards::new(&target, options.pool_size));
        Ok(Self(Arc::new(Inner {
            address,
            user,
            // A call that is not tried again has the time of an answer.
            patience: options.retry_for.max(options.response_timeout),
            retry_for: options.retry_for,
            shards,
            response_timeout: options.response_timeout,
            clock: ServerClock::new(),
            listeners: Listeners::new(target, server.has_sharded_channels()),
            server,
            holders,
            turn: AtomicUsize::new(0),
            durable: DurableCalls::new(&options)?,
            is_away: AtomicBool::new(false),
            closed: CancellationToken::new(),
        })))
    }

    /// Refuses every call from now on, and ends what waits.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
        self.0.listeners.hang_up();
    }

    /// Refuses a call once this is closed.
    pub(crate) fn open_or_closed(&self) -> Result<(), BrokerError> {
        if self.0.closed.is_cancelled() {
            Err(BrokerError::Closed)
        } else {
            Ok(())
        }
    }

    /// What publishes a message to those who [listen](Self::listen): `PUBLISH` or `SPUBLISH`.
    pub(crate) fn publish_command(&self) -> &'static str {
        if self.0.server.has_sharded_channels() {
            "SPUBLISH"
        } else {
            "PUBLISH"
        }
    }

    /// Refuses a durability that this server does not offer.
    pub(crate) fn offers(&self, durability: Durability) -> Result<(), BrokerError> {
        self.0.server.offers(durability).map_err(|problem| {
            BrokerError::unsupported(format!("Redis at {}: {problem}", self.0.address))
        })
    }

    /// Whether the answer to publishing counts the receivers: a Cluster without channels of one slot counts those of one node.
    pub(crate) fn counts_receivers(&self) -> bool {
        !self.is_cluster() || self.0.server.has_sharded_channels()
    }

    /// What time it is in Redis.
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.0.clock
    }

    /// By when Redis has to receive a call that is sent now, as scripts take it: later, it is given up here.
    pub(crate) fn not_after(&self, sent: Sent) -> String {
        self.not_after_from(sent, self.0.clock.now())
    }

    fn not_after_from(&self, sent: Sent, now: Timestamp) -> String {
        let mark = match sent {
            Sent::First => FIRST,
            Sent::Again => AGAIN,
        };
        format!("{mark}{}", (now + self.0.response_timeout).as_millis())
    }

    /// Sends a command and waits for its answer. Tries again, for as long as the options say, while Redis can't be
    /// reached or asks for patience: the command may be carried out more than once.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, SendError> {
        self.send_call(command, usize::MAX, Durability::Primary)
            .await
    }

    /// The same for a call of a script whose argument at the place `bound` says [by when](Self::not_after) it has to arrive: each
    /// try has a bound of its own, so none is carried out after it was given up. Waits until what it changes is this durable.
    pub(crate) async fn send_call(
        &self,
        command: &Cmd,
        bound: usize,
        durability: Durability,
    ) -> Result<Value, SendError> {
        let started = Instant::now();
        let mut wait = FIRST_WAIT;
        let mut again = None;
        loop {
            self.open_or_closed().map_err(SendError::Broker)?;
            let left = self.0.patience.saturating_sub(started.elapsed());
            let sending = self.try_durably(again.as_ref().unwrap_or(command), durability);
            let error = match tokio::time::timeout(left, sending).await {
                Ok(Ok((value, missing))) => {
                    self.note_back();
                    return match missing {
                        None => Ok(value),
                        Some(problem) => Err(SendError::Broker(BrokerError::not_durable(problem))),
                    };
                }
                Ok(Err(error)) => error,
                Err(_) => self.timed_out(),
            };
            match Reaction::to(&error) {
                Reaction::LoadScript => return Err(SendError::NoScript),
                Reaction::Refuse(error) => return Err(SendError::Broker(error)),
                Reaction::Deny(denied) => return Err(SendError::Denied(denied)),
                // It was on its way for too long, or a clock was set: now this process knows better.
                Reaction::SendAgain(now) if started.elapsed() < self.0.retry_for => {
                    self.0.clock.note(now);
                    again = Some(self.renewed(command, bound, now));
                    continue;
                }
                Reaction::SendAgain(_) | Reaction::TryAgain => {}
            }
            if let Some(problem) = self.0.server.refuses(command) {
                return Err(SendError::Broker(BrokerError::protocol(problem)));
            }
            self.note_away(&error);
            if started.elapsed() + wait >= self.0.retry_for {
                let problem = format!("Redis at {}: {error}", self.0.address);
                let unavailable = BrokerError::unavailable(problem).caused_by(error);
                return Err(SendError::Broker(unavailable));
            }
            let jitter = wait.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            tokio::select! {
                () = tokio::time::sleep(jitter) => {}
                () = self.0.closed.cancelled() => {}
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            again =
                (bound != usize::MAX).then(|| self.renewed(command, bound, Timestamp::default()));
        }
    }

    /// The error of a call that was denied, with the rule to add. `script` is the code of what was called, if it was one.
    pub(crate) fn explain(&self, denied: Denied, script: Option<&str>) -> BrokerError {
        let problem = denied.explain(script, &self.0.user);
        BrokerError::unavailable(format!("Redis at {}: {problem}", self.0.address))
            .caused_by(denied.into_error())
    }

    /// The command with a new bound, if it has one. By the clock of Redis it is at least `now`.
    fn renewed(&self, command: &Cmd, bound: usize, now: Timestamp) -> Cmd {
        let not_after = self.not_after_from(Sent::Again, self.0.clock.now().max(now));
        let mut renewed = Cmd::new();
        for (place, arg) in command.args_iter().enumerate() {
            match arg {
                Arg::Simple(arg) if place == bound && is_bound(arg) => renewed.arg(&not_after),
                Arg::Simple(arg) => renewed.arg(arg),
                _ => &mut renewed,
            };
        }
        renewed
    }

    /// A section of what each master tells of itself, with its address.
    pub(crate) async fn info(&self, section: &str) -> Result<Vec<(String, String)>, BrokerError> {
        self.open_or_closed()?;
        let unavailable = |error: redis::RedisError| {
            BrokerError::unavailable(format!("Redis at {}: {error}", self.0.address))
                .caused_by(error)
        };
        let held = self.0.holders[0].held().await.map_err(unavailable)?;
        let mut command = redis::cmd("INFO");
        command.arg(section);
        let answers = held.send_to_masters(&command).await.map_err(unavailable)?;
        let answers = answers.into_iter().map(|(address, answer)| {
            let address = if address.is_empty() {
                self.0.address.clone()
            } else {
                address
            };
            Ok((address, crate::reply::text(answer)?))
        });
        answers.collect()
    }

    fn timed_out(&self) -> redis::RedisError {
        let patience = self.0.patience;
        let message = format!("no answer within {patience:?}; see `retry_for`");
        std::io::Error::new(std::io::ErrorKind::TimedOut, message).into()
    }

    /// The answer, and what is missing for it to be this durable.
    async fn try_durably(
        &self,
        command: &Cmd,
        durability: Durability,
    ) -> Result<(Value, Option<String>), redis::RedisError> {
        if durability.is_primary() {
            return Ok((self.try_send(command).await?, None));
        }
        // Boxed, since it is rare and large.
        Box::pin(self.0.durable.send(command, durability)).await
    }

    async fn try_send(&self, command: &Cmd) -> Result<Value, redis::RedisError> {
        if let Some(shards) = &self.0.shards
            && let Some(answer) = shards.send(command)
        {
            return answer.await;
        }
        let turn = self.0.turn.fetch_add(1, Relaxed);
        let holder = &self.0.holders[turn % self.0.holders.len()];
        let held = holder.held().await?;
        let answer = held.send(command).await;
        if let Err(error) = &answer
            && error::is_of_no_use(error)
        {
            holder.give_up(&held);
        }
        answer
    }

    /// The messages of these channels from now on. They end when a connection is lost, since messages may be too, and when
    /// this is closed.
    pub(crate) async fn listen(
        &self,
        channels: Vec<String>,
    ) -> Result<tokio::sync::mpsc::UnboundedReceiver<Message>, BrokerError> {
        self.open_or_closed()?;
        let listening = self.0.listeners.listen(channels).await;
        let messages = listening.map_err(|error| match Reaction::to(&error) {
            Reaction::Refuse(error) => error,
            Reaction::Deny(denied) => self.explain(denied, None),
            _ => BrokerError::unavailable(format!("Redis at {}: {error}", self.0.address))
                .caused_by(error),
        })?;
        // Again, for whoever closes it hangs up on those who listen by then.
        self.open_or_closed()?;
        Ok(messages)
    }

    /// Unsubscribes from channels that nobody listens to any more.
    pub(crate) async fn tidy_channels(&self) {
        if let Err(error) = self.0.listeners.tidy().await {
            // It is of no use any more, and unsubscribed by that.
            tracing::debug!(%error, "the connection to listen by was lost");
        }
    }

    /// A message to those of this process that [listen](Self::listen).
    pub(crate) fn say(&self, message: &Message) {
        self.0.listeners.say(message);
    }

    fn note_away(&self, error: &redis::RedisError) {
        if !self.0.is_away.swap(true, Relaxed) {
            tracing::warn!(address = %self.0.address, %error, "Redis does not answer as it should; trying again");
        }
    }

    fn note_back(&self) {
        if self.0.is_away.load(Relaxed) && self.0.is_away.swap(false, Relaxed) {
            tracing::info!(address = %self.0.address, "Redis answers again");
        }
    }
}
