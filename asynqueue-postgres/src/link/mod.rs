//! The way to PostgreSQL: calls with their retries, and what is announced between processes.

mod aside;
mod drive;
mod error;
mod isolation;
mod listen;
mod news;
mod pool;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "tls/off.rs"]
mod tls;
mod transaction;
mod watch;

use std::{
    borrow::Cow,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{
    broker::{
        BrokerError,
        kit::{Lanes, ServerClock, Used},
    },
    task::{Clock, TaskId, Timestamp},
};
use deadpool_postgres::{Object, Pool};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::Row;

pub use self::error::ConnectError;
use self::{aside::Aside, isolation::Isolation, listen::Listener, watch::Watch};
pub(crate) use self::{
    error::{Fault, GRANT, Reaction, problem, why_not_connected},
    news::{Event, News},
    tls::Tls,
    transaction::{Change, Make},
    watch::Watched,
};
use crate::{
    PostgresOptions,
    sql::{
        Call, Value,
        values::{long, text, time, timestamp},
    },
};

/// The first wait before a retry. It doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// The longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Connections to PostgreSQL.
pub(crate) struct Link {
    pool: Pool,
    isolation: Isolation,
    tls: Tls,
    pub(crate) server: String,
    pub(crate) schema: Schema,
    clock: ServerClock,
    /// For tests.
    fixed: Option<Arc<dyn Clock>>,
    closed: AtomicBool,
    response_timeout: Duration,
    retry_for: Duration,
    /// Room for calls that may wait for a transaction of a caller.
    waiting: Semaphore,
    pub(crate) news: Arc<News>,
    listener: Listener,
    watch: Watch,
    /// Lanes for leases: the next one has what the response of the last one was to bring.
    pub(crate) leases: Lanes,
    /// Lanes for other changes.
    pub(crate) changes: Lanes,
}

/// The schema of all tables and functions.
#[derive(Clone, Debug)]
pub(crate) struct Schema(String);

impl Schema {
    pub(crate) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Statements are written for the schema `asynqueue`.
    pub(crate) fn apply<'s>(&self, sql: &'s str) -> Cow<'s, str> {
        match self.0.as_str() {
            "asynqueue" => Cow::Borrowed(sql),
            name => Cow::Owned(sql.replace("asynqueue.", &format!("\"{name}\"."))),
        }
    }
}

impl Link {
    /// Opens connections when calls need them. `channel` names what is announced between processes.
    ///
    /// # Errors
    ///
    /// When a certificate or key is invalid.
    pub(crate) fn open(options: &PostgresOptions, channel: &str) -> Result<Self, ConnectError> {
        let tls = options.tls()?;
        let isolation = Isolation::default();
        let pool = pool::open(options, tls.clone(), isolation.clone());
        let schema = Schema::new(&options.schema);
        let aside = Aside {
            pool: pool.clone(),
            isolation: isolation.clone(),
            tls: tls.clone(),
            limit: options.response_timeout,
        };
        let news = News::new(aside.clone(), schema.clone(), channel);
        let news = Arc::new(news);
        // Short, because it is stored with each call.
        let instance = format!(
            "{:016x}",
            TaskId::generate().to_u128().unwrap_or_default() as u64
        );
        let listen = options.listen.as_deref().unwrap_or(options);
        Ok(Self {
            server: options.server(),
            listener: Listener::new(listen, listen.tls()?, channel, &news),
            tls,
            watch: Watch::new(aside, &news),
            pool,
            isolation,
            schema,
            clock: ServerClock::default(),
            fixed: options.clock.clone(),
            closed: AtomicBool::new(false),
            response_timeout: options.response_timeout,
            retry_for: options.retry_for,
            waiting: Semaphore::new(options.pool_size.saturating_sub(1).max(1)),
            news,
            leases: Lanes::new(format!("{instance}l")),
            changes: Lanes::new(format!("{instance}c")),
        })
    }

    /// The server's time, as this process knows it.
    pub(crate) fn now(&self) -> Timestamp {
        self.fixed
            .as_ref()
            .map_or_else(|| self.clock.now(), |clock| clock.now())
    }

    /// The time that tests have fixed, as a value of calls.
    pub(crate) fn fixed(&self) -> Value {
        Value::Long(self.fixed.as_ref().map(|clock| time(clock.now())))
    }

    /// Notes the time that the server has reported.
    pub(crate) fn note_time(&self, now: i64) {
        self.clock.note(timestamp(now));
    }

    pub(crate) fn open_or_closed(&self) -> Result<(), BrokerError> {
        match self.closed.load(Relaxed) || self.pool.is_closed() {
            false => Ok(()),
            true => Err(BrokerError::Closed),
        }
    }

    /// Makes a call that has the same effect and result if it is made again, which happens when its response is lost.
    pub(crate) async fn call(&self, call: &Call) -> Result<Vec<Row>, BrokerError> {
        let mut retry = self.retry();
        loop {
            match self.call_once(call).await {
                Ok(rows) => return Ok(rows),
                Err(fault) => retry.wait_after(fault).await?,
            }
        }
    }

    /// Makes a call that has an effect once: made again, it returns its first response. The last parameters of its
    /// function are the lane, the number, and whether it is made again.
    pub(crate) async fn call_in(
        &self,
        lane: Used<'_>,
        mut call: Call,
    ) -> Result<Vec<Row>, BrokerError> {
        let number = long(lane.number() as i64);
        call.values.extend([text(&lane.name()), number]);
        call.values.push(Value::Flag(lane.is_again()));
        let mut retry = self.retry();
        loop {
            let fault = match self.call_once(&call).await {
                Ok(rows) => {
                    lane.answered();
                    return Ok(rows);
                }
                Err(fault) => fault,
            };
            retry.wait_after(fault).await?;
            call.values.pop();
            call.values.push(Value::Flag(true));
        }
    }

    /// Runs a statement, which is a transaction, without a retry.
    pub(crate) async fn call_once(&self, call: &Call) -> Result<Vec<Row>, Fault> {
        call.check()?;
        let client = self.client().await?;
        let sql = self.schema.apply(call.sql);
        let values = call.typed();
        let response = self
            .in_time(self.isolation.run(&client, &sql, &values))
            .await;
        if response.as_ref().is_err_and(Fault::spoils_connection) {
            self.discard(client);
        }
        response
    }

    /// A response, unless it takes too long. Its connection must be discarded then.
    async fn in_time<T>(
        &self,
        response: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        match tokio::time::timeout(self.response_timeout, response).await {
            Ok(response) => Ok(response?),
            Err(_) => Err(Fault::Late(self.response_timeout)),
        }
    }

    pub(crate) async fn client(&self) -> Result<Object, Fault> {
        self.open_or_closed()?;
        Ok(self.pool.get().await?)
    }

    /// Room for a call that may wait for a transaction of a caller, until it ends. If such calls had all connections, no
    /// lease would be extended in the meantime.
    pub(crate) async fn room_to_wait(&self) -> Result<SemaphorePermit<'_>, BrokerError> {
        let limit = self.response_timeout;
        match tokio::time::timeout(limit, self.waiting.acquire()).await {
            Ok(room) => room.map_err(|_| BrokerError::Closed),
            Err(_) => Err(Fault::Late(limit).into_error(&self.server)),
        }
    }

    /// Closes a connection whose state is unknown, and cancels what it does.
    pub(crate) fn discard(&self, client: Object) {
        aside::discard(client, self.tls.clone());
    }

    pub(crate) fn retry(&self) -> Retry<'_> {
        Retry {
            link: self,
            until: None,
            wait: FIRST_WAIT,
        }
    }

    /// Announces what was committed, to this process and others.
    pub(crate) fn announce(&self, events: Vec<Event>) {
        self.news.announce(events);
    }

    /// Announces what a transaction of a caller has changed, once it is committed.
    pub(crate) fn watch(&self, watched: Watched) {
        self.watch.add(watched);
    }

    /// Listens to other processes, if this one does not do so yet.
    pub(crate) async fn listen(&self) {
        self.listener.start().await;
    }

    /// Completes once what was announced is sent, and the connections are closed.
    pub(crate) async fn close(&self) {
        self.closed.store(true, Relaxed);
        self.waiting.close();
        self.listener.stop();
        self.news.close().await;
        self.pool.close();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listener.stop();
    }
}

/// The tries of one call.
pub(crate) struct Retry<'l> {
    link: &'l Link,
    /// Set by the first failure, which may have taken long.
    until: Option<Instant>,
    wait: Duration,
}

impl Retry<'_> {
    /// Waits before the next try, or returns the error.
    pub(crate) async fn wait_after(&mut self, fault: Fault) -> Result<(), BrokerError> {
        let now = Instant::now();
        let until = *self.until.get_or_insert(now + self.link.retry_for);
        if fault.reaction() == Reaction::Fail || now + self.wait > until {
            return Err(fault.into_error(&self.link.server));
        }
        tracing::debug!(?fault, "repeating a call to PostgreSQL");
        // Spread, so that transactions that were in each other's way are not so again.
        let spread = std::collections::hash_map::RandomState::new().hash_one(until);
        let part = (spread % 1_000) as f64 / 1_000.0;
        tokio::time::sleep(self.wait.mul_f64(0.5 + part)).await;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Ok(())
    }
}
