//! The connections to Redis: opened, kept, and replaced when they are lost.

mod connection;
mod denied;
mod durable;
mod error;
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
    broker::{
        BrokerError, Durability,
        kit::{ServerClock, io},
    },
    task::Timestamp,
};
use redis::{Arg, Cmd, Value};
use tokio_util::sync::CancellationToken;

pub use self::error::ConnectError;
pub(crate) use self::listen::Message;
use self::{
    connection::{Holder, Source},
    denied::{Denied, User},
    durable::DurableCalls,
    error::Reaction,
    listen::Listeners,
    server::ServerInfo,
    shards::Shards,
    target::Target,
};

use crate::{
    meter,
    options::{RedisOptions, Topology},
};

/// The first wait before a retry. It doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Connections to Redis. Clones share them.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    /// The address of Redis, for messages.
    address: String,
    user: User,
    retry_for: Duration,
    /// The longest time that a caller waits.
    patience: Duration,
    response_timeout: Duration,
    clock: ServerClock,
    server: ServerInfo,
    /// The connections for calls, used in turn.
    holders: Vec<Holder>,
    turn: AtomicUsize,
    durable: DurableCalls,
    /// The connections to the shards of a Cluster, for commands with keys.
    shards: Option<Shards>,
    listeners: Listeners,
    /// Whether the last call failed.
    is_away: AtomicBool,
    closed: CancellationToken,
}

/// Whether a call is sent for the first time, or may already have taken effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    First,
    Again,
}

/// Mark the deadline of a first try, and of a retry.
const FIRST: char = '<';
const AGAIN: char = '!';

/// Whether an argument is a [deadline](Link::not_after) and not the clock of a test.
fn is_deadline(arg: &[u8]) -> bool {
    let is_mark = |byte: &u8| [FIRST, AGAIN].contains(&char::from(*byte));
    (arg.split_first())
        .is_some_and(|(mark, time)| is_mark(mark) && time.iter().all(u8::is_ascii_digit))
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum SendError {
    /// Redis does not know the script of an `EVALSHA`: send it with `EVAL`.
    NoScript,
    /// The user has no permission.
    Denied(Denied),
    /// Any other error.
    Broker(BrokerError),
}

impl Link {
    /// Connects, and checks that this Redis can store tasks.
    pub(crate) async fn open(options: RedisOptions) -> Result<Self, ConnectError> {
        meter::register();
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
        // Connections from a user's pool are used as they are.
        let has_shards = matches!(options.topology, Topology::Cluster) && options.pool.is_none();
        let shards = has_shards.then(|| Shards::new(&target, options.pool_size));
        Ok(Self(Arc::new(Inner {
            address,
            user,
            // Even a call without retries has the time of one response.
            patience: options.retry_for.max(options.response_timeout),
            retry_for: options.retry_for,
            shards,
            response_timeout: options.response_timeout,
            clock: ServerClock::default(),
            listeners: Listeners::new(target, server.has_sharded_channels()),
            server,
            holders,
            turn: AtomicUsize::new(0),
            durable: DurableCalls::new(&options)?,
            is_away: AtomicBool::new(false),
            closed: CancellationToken::new(),
        })))
    }

    /// Refuses all further calls, and ends all waiting.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
        self.0.listeners.close();
    }

    /// Fails once this is closed.
    pub(crate) fn open_or_closed(&self) -> Result<(), BrokerError> {
        if self.0.closed.is_cancelled() {
            Err(BrokerError::Closed)
        } else {
            Ok(())
        }
    }

    /// The command that publishes to [subscribers](Self::listen): `PUBLISH` or `SPUBLISH`.
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

    /// Whether the response to publishing counts all receivers. A Cluster without sharded channels counts those of one
    /// node.
    pub(crate) fn counts_receivers(&self) -> bool {
        !self.is_cluster() || self.0.server.has_sharded_channels()
    }

    /// The time in Redis.
    pub(crate) fn clock(&self) -> &ServerClock {
        &self.0.clock
    }

    /// The deadline of a call that is sent now: Redis refuses it later, when the caller has given up.
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

    /// Sends a command and waits for its response. Retries for [`retry_for`](RedisOptions::retry_for) while Redis
    /// cannot be reached or is temporarily unable to respond, so the command may be executed more than once.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, SendError> {
        self.send_call(command, usize::MAX, Durability::Primary)
            .await
    }

    /// Like [`send`](Self::send), but the argument of a script at index `deadline` is its [deadline](Self::not_after).
    /// Each try has a new deadline, so no try takes effect after the caller has given up. Waits until the change is
    /// this durable.
    pub(crate) async fn send_call(
        &self,
        command: &Cmd,
        deadline: usize,
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
                // The call was on its way for too long, or a clock was set. The time in Redis is known now.
                Reaction::SendAgain(now) if started.elapsed() < self.0.retry_for => {
                    self.0.clock.note(now);
                    again = Some(self.renewed(command, deadline, now));
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
            again = (deadline != usize::MAX)
                .then(|| self.renewed(command, deadline, Timestamp::default()));
        }
    }

    /// The error of a denied call, with the rule to add. `script` is the code of the script that was called, if any.
    pub(crate) fn explain(&self, denied: Denied, script: Option<&str>) -> BrokerError {
        let problem = denied.explain(script, &self.0.user);
        BrokerError::unavailable(format!("Redis at {}: {problem}", self.0.address))
            .caused_by(denied.into_error())
    }

    /// The command with a new deadline, if it has one. The clock of Redis is at least at `now`.
    fn renewed(&self, command: &Cmd, deadline: usize, now: Timestamp) -> Cmd {
        let not_after = self.not_after_from(Sent::Again, self.0.clock.now().max(now));
        let mut renewed = Cmd::new();
        for (place, arg) in command.args_iter().enumerate() {
            match arg {
                Arg::Simple(arg) if place == deadline && is_deadline(arg) => {
                    renewed.arg(&not_after)
                }
                Arg::Simple(arg) => renewed.arg(arg),
                _ => &mut renewed,
            };
        }
        renewed
    }

    /// A section of `INFO` from each master, with its address.
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
        let message = format!("no response within {patience:?} (`retry_for`)");
        std::io::Error::new(std::io::ErrorKind::TimedOut, message).into()
    }

    /// The response, and what is missing for this durability.
    async fn try_durably(
        &self,
        command: &Cmd,
        durability: Durability,
    ) -> Result<(Value, Option<String>), redis::RedisError> {
        if durability.is_primary() {
            return Ok((self.try_send(command).await?, None));
        }
        // Boxed because it is rare and large.
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
            && error::is_unusable(error)
        {
            holder.give_up(&held);
        }
        answer
    }

    /// Subscribes to these channels. The messages end when the connection is lost, because messages may be lost too,
    /// and when this is closed.
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
        // Checked again: `close` ends only the subscriptions that exist when it runs.
        self.open_or_closed()?;
        Ok(messages)
    }

    /// Unsubscribes from channels without listeners.
    pub(crate) async fn tidy_channels(&self) {
        if let Err(error) = self.0.listeners.tidy().await {
            // The connection is lost, and its subscriptions with it.
            tracing::debug!(%error, "the connection for notifications was lost");
        }
    }

    /// Sends a message to the [listeners](Self::listen) of this process.
    pub(crate) fn notify_local(&self, message: &Message) {
        self.0.listeners.notify_local(message);
    }

    fn note_away(&self, error: &redis::RedisError) {
        if !self.0.is_away.swap(true, Relaxed) {
            tracing::warn!(address = %self.0.address, %error, "Redis is not responding; retrying");
        }
    }

    fn note_back(&self) {
        if self.0.is_away.load(Relaxed) && self.0.is_away.swap(false, Relaxed) {
            tracing::info!(address = %self.0.address, "Redis is responding again");
        }
    }
}
