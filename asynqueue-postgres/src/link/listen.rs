//! The connection that listens to other processes. It is opened once this process waits for anything.

use std::{sync::Arc, time::Duration};

use asynqueue_core::broker::kit::io;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;

use super::{News, Tls, problem};

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
    tls: Tls,
    channel: String,
    news: Arc<News>,
    first: watch::Sender<First>,
}

impl Listener {
    pub(super) fn new(config: Config, tls: Tls, channel: &str, news: &Arc<News>) -> Self {
        let parts = Parts {
            config,
            tls,
            channel: channel.to_owned(),
            news: Arc::clone(news),
            first: watch::Sender::new(First::Opening),
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
            if let Err(error) = self.listen().await {
                tracing::debug!(
                    error,
                    "not listening to other processes; finding their tasks by polling"
                );
            }
            self.first.send_if_modified(|first| {
                let is_first = *first == First::Opening;
                if is_first {
                    *first = First::Failed;
                }
                is_first
            });
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
        let (hear, mut heard) = mpsc::unbounded_channel();
        let (client, connection) = self
            .tls
            .connect(&self.config, Some(hear))
            .await
            .map_err(text)?;
        let connection = tokio::spawn(connection);
        let channel = &self.channel;
        client
            .batch_execute(&format!("listen \"{channel}\""))
            .await
            .map_err(text)?;
        if self.first.send_replace(First::Listening) != First::Opening {
            // What was announced while nobody listened is looked for.
            self.news.here.look();
        }
        let echo = format!("select pg_notify('{channel}', 'echo')");
        let (mut echoes, mut is_warned) = (false, false);
        client.batch_execute(&echo).await.map_err(text)?;
        loop {
            let limit = if echoes { CHECK } else { ECHO };
            match tokio::time::timeout(limit, heard.recv()).await {
                Ok(Some(payload)) => {
                    echoes |= !self.news.hear(&payload);
                }
                Ok(None) => {
                    connection.abort();
                    return Err("the connection was lost".into());
                }
                Err(_) if !echoes && !is_warned => {
                    tracing::warn!(
                        "notifications do not arrive, and servers find tasks by polling: if there is a pooler in between, \
                         name PostgreSQL itself in the URL, as in `listen=postgres%3A%2F%2F…`"
                    );
                    is_warned = true;
                }
                Err(_) => {
                    let check = client.batch_execute(&echo);
                    let checked = tokio::time::timeout(ECHO, check).await;
                    checked
                        .map_err(|_| "the connection does not respond".to_owned())?
                        .map_err(text)?;
                }
            }
        }
    }
}
