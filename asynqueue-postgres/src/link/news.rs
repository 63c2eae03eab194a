//! What was committed is announced: within this process at once, and to others by notifications that are joined.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use asynqueue_core::broker::kit::{Announced, Announcer, Note, io};
use asynqueue_core::task::TaskId;
use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::types::Type;

use super::Schema;

/// The limit of a payload is 8,000 bytes.
const MAX_PAYLOAD: usize = 7_000;

/// The pause after a notification. What is announced in it is sent together.
const PAUSE: Duration = Duration::from_millis(2);

/// How long closing waits for what was announced.
const LAST: Duration = Duration::from_secs(1);

/// A longer list is found by polling.
const MAX_WAITING: usize = 10_000;

/// The listeners of this process, and the way to those of others.
pub(crate) struct News {
    pub(crate) here: Announcer,
    others: Arc<Others>,
    pool: Pool,
    schema: Schema,
}

struct Others {
    origin: String,
    parts: Mutex<Parts>,
    /// Set once the last notes are sent.
    sent: Notify,
}

#[derive(Default)]
struct Parts {
    /// Notes in the order they were announced, each once.
    waiting: Vec<Note>,
    known: BTreeSet<String>,
    is_sending: bool,
    closed: bool,
}

impl News {
    pub(super) fn new(pool: Pool, schema: Schema) -> Self {
        let others = Others {
            origin: TaskId::generate().to_string(),
            parts: Mutex::default(),
            sent: Notify::new(),
        };
        Self {
            here: Announcer::default(),
            others: Arc::new(others),
            pool,
            schema,
        }
    }

    /// Announces what was committed.
    pub(crate) fn announce(&self, events: Vec<Announced>) {
        if events.is_empty() {
            return;
        }
        let notes = self.here.announce(events);
        let mut parts = self.others.parts.lock();
        if parts.closed {
            return;
        }
        for note in notes {
            if parts.waiting.len() < MAX_WAITING && parts.known.insert(format!("{note:?}")) {
                parts.waiting.push(note);
            }
        }
        if parts.is_sending || parts.waiting.is_empty() {
            return;
        }
        parts.is_sending = true;
        drop(parts);
        let sending = send(Arc::clone(&self.others), self.pool.clone(), self.schema.clone());
        if io::spawn(sending).is_err() {
            self.others.parts.lock().is_sending = false;
        }
    }

    /// Takes a payload that another process, or this one, has sent. Returns whether it is a note.
    pub(super) fn hear(&self, payload: &str) -> bool {
        let Some((origin, notes)) = payload.split_once(' ') else {
            return false;
        };
        if origin == self.others.origin {
            return true;
        }
        // A note of a later version is ignored.
        let notes: Vec<serde_json::Value> = serde_json::from_str(notes).unwrap_or_default();
        for note in notes {
            if let Ok(note) = serde_json::from_value(note) {
                self.here.hear(note);
            }
        }
        true
    }

    /// Completes once what was announced is sent, or after a second.
    pub(super) async fn close(&self) {
        self.here.close();
        let sent = self.others.sent.notified();
        let is_sending = {
            let mut parts = self.others.parts.lock();
            parts.closed = true;
            parts.is_sending
        };
        if is_sending {
            let _ = tokio::time::timeout(LAST, sent).await;
        }
    }
}

async fn send(others: Arc<Others>, pool: Pool, schema: Schema) {
    loop {
        let notes = {
            let mut parts = others.parts.lock();
            parts.known.clear();
            let notes = std::mem::take(&mut parts.waiting);
            if notes.is_empty() {
                parts.is_sending = false;
                others.sent.notify_waiters();
                return;
            }
            notes
        };
        let payloads = payloads(&others.origin, &notes);
        let notify = async {
            let client = pool.get().await.map_err(|error| error.to_string())?;
            let sql = "select pg_notify($1, payload) from unnest($2) payload";
            let values: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 2] =
                [(&schema.name(), Type::TEXT), (&payloads, Type::TEXT_ARRAY)];
            let sent = client.query_typed(sql, &values).await;
            sent.map_err(|error| super::problem(&error))
        };
        if let Err(error) = notify.await {
            tracing::debug!(error, "could not notify other processes; they find tasks by polling");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The notes as payloads: where they are from, and a list.
fn payloads(origin: &str, notes: &[Note]) -> Vec<String> {
    let (mut payloads, mut parts) = (Vec::new(), Vec::new());
    let mut length = 0;
    let whole = |parts: &[String]| format!("{origin} [{}]", parts.join(","));
    for note in notes {
        let Ok(text) = serde_json::to_string(note) else {
            continue;
        };
        if text.len() > MAX_PAYLOAD {
            continue;
        }
        if length + text.len() > MAX_PAYLOAD {
            payloads.push(whole(&parts));
            parts.clear();
            length = 0;
        }
        length += text.len() + 1;
        parts.push(text);
    }
    if !parts.is_empty() {
        payloads.push(whole(&parts));
    }
    payloads
}
