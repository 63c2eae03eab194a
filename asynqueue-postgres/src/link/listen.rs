//! The connection that listens to other processes. It is opened once this process waits for anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use asynqueue_core::broker::kit::io;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};
use tokio_postgres::{Client, Config};
use tokio_util::sync::CancellationToken;

use super::{News, Tls, problem};
use crate::PostgresOptions;

/// How long a lost connection stays lost at most, and how often one is checked.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
const CHECK: Duration = Duration::from_secs(10);

/// How long a notification may take to come back.
const ECHO: Duration = Duration::from_secs(5);

pub(super) struct Listener {
    parts: Arc<Parts>,
    is_started: Mutex<bool>,
    over: CancellationToken,
}

/// What became of the first connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Opening,
    Listening,
    Failed,
}

struct Parts {
    config: Config,
    /// For each step of connecting.
    limit: Duration,
    tls: Tls,
    channel: String,
    news: Arc<News>,
    first: watch::Sender<First>,
    /// Whether notifications do not arrive.
    is_deaf: AtomicBool,
}

impl Listener {
    pub(super) fn new(
        options: &PostgresOptions,
        tls: Tls,
        channel: &str,
        news: &Arc<News>,
    ) -> Self {
        let parts = Parts {
            config: options.config.clone(),
            limit: options.time_to_connect(),
            tls,
            channel: channel.to_owned(),
            news: Arc::clone(news),
            first: watch::Sender::new(First::Opening),
            is_deaf: AtomicBool::new(false),
        };
        Self {
            parts: Arc::new(parts),
            is_started: Mutex::new(false),
            over: CancellationToken::new(),
        }
    }

    /// Completes once this process listens, or has tried to.
    pub(super) async fn start(&self) {
        self.spawn();
        let mut first = self.parts.first.subscribe();
        // Fails if the process ends.
        let _ = first.wait_for(|first| *first != First::Opening).await;
    }

    fn spawn(&self) {
        let mut is_started = self.is_started.lock();
        if *is_started || self.over.is_cancelled() {
            return;
        }
        *is_started = true;
        let (parts, over) = (Arc::clone(&self.parts), self.over.clone());
        let listening = async move {
            over.run_until_cancelled(Arc::clone(&parts).run()).await;
            parts.first.send_replace(First::Failed);
        };
        if io::spawn(listening).is_err() {
            self.parts.first.send_replace(First::Failed);
        }
    }

    pub(super) fn stop(&self) {
        self.over.cancel();
        self.parts.first.send_replace(First::Failed);
    }
}

impl Parts {
    async fn run(self: Arc<Self>) {
        let mut wait = Duration::from_millis(50);
        loop {
            let started = Instant::now();
            let listened = self.listen().await;
            let is_first = self.first.send_if_modified(|first| {
                let is_first = *first == First::Opening;
                if is_first {
                    *first = First::Failed;
                }
                is_first
            });
            match listened {
                Err(error) if is_first => {
                    self.is_deaf.store(true, Relaxed);
                    tracing::warn!(
                        error,
                        "cannot listen to other processes; finding their tasks by polling, and trying again"
                    );
                }
                Err(error) => {
                    tracing::debug!(error, "the listening connection was lost; opening it again")
                }
                Ok(()) => {}
            }
            if started.elapsed() > LONGEST_WAIT {
                wait = Duration::from_millis(50);
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Listens until the connection is lost.
    async fn listen(&self) -> Result<(), String> {
        let text = |error: tokio_postgres::Error| problem(&error);
        let (hear, heard) = mpsc::unbounded_channel();
        let connecting = self.tls.connect(&self.config, Some(hear));
        let connected = tokio::time::timeout(self.limit, connecting).await;
        let (client, connection) = connected
            .map_err(|_| format!("no response within {:?}", self.limit))?
            .map_err(text)?;
        // Aborted on drop.
        let mut driving = JoinSet::new();
        driving.spawn(connection);
        let channel = &self.channel;
        let listen = format!("listen \"{channel}\"");
        let listens = tokio::time::timeout(self.limit, client.batch_execute(&listen)).await;
        listens
            .map_err(|_| format!("no response within {:?}", self.limit))?
            .map_err(text)?;
        if self.first.send_replace(First::Listening) != First::Opening {
            // What was announced while nobody listened is looked for.
            self.news.here.look();
        }
        let last_echo = watch::Sender::new(0);
        tokio::select! {
            () = self.hear(heard, &last_echo) => Err("the connection was lost".into()),
            failed = self.check(&client, last_echo.subscribe()) => failed,
        }
    }

    /// Passes on what arrives, until the connection is lost.
    async fn hear(
        &self,
        mut heard: mpsc::UnboundedReceiver<String>,
        last_echo: &watch::Sender<u64>,
    ) {
        while let Some(payload) = heard.recv().await {
            if let Some(number) = self.news.hear(&payload) {
                last_echo.send_replace(number);
            }
        }
    }

    /// Checks that the connection is alive, and that what is sent on the connections for calls arrives on it.
    async fn check(
        &self,
        client: &Client,
        mut last_echo: watch::Receiver<u64>,
    ) -> Result<(), String> {
        let mut number = 0;
        loop {
            number += 1;
            let mut arrives = None;
            // The connections for calls may all be in use: then nothing is known.
            if self.news.echo(number).await.is_ok() {
                let echo = last_echo.wait_for(|last| *last == number);
                arrives = Some(tokio::time::timeout(ECHO, echo).await.is_ok());
            }
            let check = tokio::time::timeout(ECHO, client.batch_execute("")).await;
            check
                .map_err(|_| "the connection does not respond".to_owned())?
                .map_err(|error| problem(&error))?;
            if let Some(arrives) = arrives {
                self.log(arrives);
            }
            tokio::time::sleep(CHECK).await;
        }
    }

    /// Logs that notifications do not arrive, or arrive again.
    fn log(&self, arrive: bool) {
        match (arrive, self.is_deaf.swap(!arrive, Relaxed)) {
            (false, false) => tracing::warn!(
                "notifications do not arrive, and servers find tasks by polling: if there is a pooler in between, name \
                 PostgreSQL itself in the URL, as in `listen=postgres%3A%2F%2F…`"
            ),
            (true, true) => tracing::info!("notifications arrive again"),
            _ => {}
        }
    }
}
