//! The connection that listens to other processes. It is opened once this process waits for anything.

use std::{sync::Arc, time::Duration};

use asynqueue_core::broker::kit::io;
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::Instant};
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;

use super::{News, Schema, Tls, problem};

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

struct Parts {
    config: Config,
    tls: Tls,
    schema: Schema,
    news: Arc<News>,
}

impl Listener {
    pub(super) fn new(config: Config, tls: Tls, schema: &Schema, news: &Arc<News>) -> Self {
        let parts = Parts {
            config,
            tls,
            schema: schema.clone(),
            news: Arc::clone(news),
        };
        Self {
            parts: Arc::new(parts),
            is_started: Mutex::new(false),
            over: CancellationToken::new(),
        }
    }

    pub(super) fn start(&self) {
        let mut is_started = self.is_started.lock();
        if *is_started || self.over.is_cancelled() {
            return;
        }
        let listening = Arc::clone(&self.parts).run();
        let over = self.over.clone();
        let started = io::spawn(async move { over.run_until_cancelled(listening).await });
        *is_started = started.is_ok();
    }

    pub(super) fn stop(&self) {
        self.over.cancel();
    }
}

impl Parts {
    async fn run(self: Arc<Self>) {
        let mut wait = Duration::from_millis(50);
        loop {
            let started = Instant::now();
            if let Err(error) = self.listen().await {
                tracing::debug!(error, "not listening to other processes; finding their tasks by polling");
            }
            // What was announced in between is looked for.
            self.news.here.look();
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
        let (client, connection) = self.tls.connect(&self.config, Some(hear)).await.map_err(text)?;
        let connection = tokio::spawn(connection);
        let channel = self.schema.name();
        client.batch_execute(&format!("listen \"{channel}\"")).await.map_err(text)?;
        // What was announced before is looked for.
        self.news.here.look();
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
                    checked.map_err(|_| "the connection does not respond".to_owned())?.map_err(text)?;
                }
            }
        }
    }
}
