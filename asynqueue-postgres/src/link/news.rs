//! What was committed is announced: within this process at once, and to others by notifications that are joined.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use asynqueue_core::{
    broker::{
        Signal,
        kit::{Announced, Announcer, Note, io},
    },
    task::{Name, TaskId},
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_postgres::types::{ToSql, Type};

use super::{Schema, aside::Aside};

/// The limit of a payload is 8,000 bytes.
const MAX_PAYLOAD: usize = 7_000;

/// The pause after a notification. What is announced in it is sent together.
const PAUSE: Duration = Duration::from_millis(2);

/// How long closing waits for what was announced.
const LAST: Duration = Duration::from_secs(1);

/// A longer list is found by polling.
const MAX_WAITING: usize = 10_000;

/// What to announce once it is committed.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Now(Announced),
    /// A queue has more pending tasks. The first ones before, as a rank and a place: while they stay there, every worker
    /// that looks finds tasks. Once they are gone, a worker may have gone to sleep before these tasks were committed.
    Pending(Name, Option<String>),
}

impl Event {
    pub(crate) fn signal(queue: &Name, signal: Signal) -> Self {
        Self::Now(Announced::Signal(queue.clone(), signal))
    }
}

/// The listeners of this process, and the way to those of others.
pub(crate) struct News {
    pub(crate) here: Arc<Announcer>,
    others: Arc<Others>,
    aside: Aside,
    schema: Schema,
}

struct Others {
    channel: String,
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
    /// Queues of which something more is pending, and what was pending there first.
    checks: HashMap<Name, String>,
    is_sending: bool,
    closed: bool,
}

impl News {
    pub(super) fn new(aside: Aside, schema: Schema, channel: &str) -> Self {
        let others = Others {
            channel: channel.to_owned(),
            origin: TaskId::generate().to_string(),
            parts: Mutex::default(),
            sent: Notify::new(),
        };
        Self {
            here: Arc::default(),
            others: Arc::new(others),
            aside,
            schema,
        }
    }

    /// Announces what was committed.
    pub(crate) fn announce(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let (mut now, mut checks) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Event::Now(event) => now.push(event),
                Event::Pending(queue, None) => {
                    now.push(Announced::Signal(queue.clone(), Signal::Pending(queue)));
                }
                Event::Pending(queue, Some(head)) => checks.push((queue, head)),
            }
        }
        let notes = self.here.announce(now);
        let mut parts = self.others.parts.lock();
        if parts.closed {
            return;
        }
        parts.add(notes);
        parts.check(checks);
        if parts.is_sending || (parts.waiting.is_empty() && parts.checks.is_empty()) {
            return;
        }
        parts.is_sending = true;
        drop(parts);
        let sending = Sending {
            here: Arc::clone(&self.here),
            others: Arc::clone(&self.others),
            aside: self.aside.clone(),
            schema: self.schema.clone(),
        };
        if io::spawn(sending.run()).is_err() {
            self.others.parts.lock().is_sending = false;
        }
    }

    /// Sends an echo to all processes, the way that notes are sent. Only this one hears its number.
    pub(super) async fn echo(&self, number: u64) -> Result<(), String> {
        let payload = format!("{}-{number}", self.others.origin);
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.others.channel, Type::TEXT), (&payload, Type::TEXT)];
        let sent = self.aside.run("select pg_notify($1, $2)", &values).await;
        sent.map(drop)
    }

    /// Takes a payload that another process, or this one, has sent. Returns the number of an own [echo](Self::echo).
    pub(super) fn hear(&self, payload: &str) -> Option<u64> {
        let Some((origin, notes)) = payload.split_once(' ') else {
            let number = payload.strip_prefix(&self.others.origin)?.strip_prefix('-');
            return number?.parse().ok();
        };
        if origin == self.others.origin {
            return None;
        }
        // A note of a later version is ignored.
        let notes: Vec<serde_json::Value> = serde_json::from_str(notes).unwrap_or_default();
        for note in notes {
            if let Ok(note) = serde_json::from_value(note) {
                self.here.hear(note);
            }
        }
        None
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

impl Parts {
    fn check(&mut self, checks: Vec<(Name, String)>) {
        for (queue, head) in checks {
            // The first one is the one that a worker may have taken.
            self.checks.entry(queue).or_insert(head);
        }
    }

    fn add(&mut self, notes: Vec<Note>) {
        for note in notes {
            if self.waiting.len() < MAX_WAITING && self.known.insert(format!("{note:?}")) {
                self.waiting.push(note);
            }
        }
    }
}

/// A task that sends what was announced.
struct Sending {
    here: Arc<Announcer>,
    others: Arc<Others>,
    aside: Aside,
    schema: Schema,
}

impl Sending {
    async fn run(self) {
        loop {
            let (notes, checks) = {
                let mut parts = self.others.parts.lock();
                parts.known.clear();
                let notes = std::mem::take(&mut parts.waiting);
                let checks = std::mem::take(&mut parts.checks);
                if notes.is_empty() && checks.is_empty() {
                    parts.is_sending = false;
                    self.others.sent.notify_waiters();
                    return;
                }
                (notes, checks)
            };
            if let Err(error) = self.send(notes, checks).await {
                tracing::debug!(
                    error,
                    "could not notify other processes; they find tasks by polling"
                );
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn send(&self, notes: Vec<Note>, checks: HashMap<Name, String>) -> Result<(), String> {
        if !notes.is_empty() {
            let payloads = payloads(&self.others.origin, &notes);
            let sql = "select pg_notify($1, payload) from unnest($2) payload";
            let values: [(&(dyn ToSql + Sync), Type); 2] = [
                (&self.others.channel, Type::TEXT),
                (&payloads, Type::TEXT_ARRAY),
            ];
            self.aside.run(sql, &values).await?;
        }
        if checks.is_empty() {
            return Ok(());
        }
        let (names, heads): (Vec<_>, Vec<_>) = checks
            .iter()
            .map(|(name, head)| (name.as_str(), head))
            .unzip();
        let sql = self
            .schema
            .apply("select name, is_taken from asynqueue.moved_on($1, $2)");
        let values: [(&(dyn ToSql + Sync), Type); 2] =
            [(&names, Type::TEXT_ARRAY), (&heads, Type::TEXT_ARRAY)];
        let moved_on = self.aside.run(&sql, &values).await?;
        let (mut pending, mut again) = (Vec::new(), Vec::new());
        for row in &moved_on {
            let queue = Name::from(row.get::<_, String>(0));
            match (row.get(1), checks.get(&queue)) {
                (true, Some(head)) => again.push((queue, head.clone())),
                _ => pending.push(Announced::Signal(queue.clone(), Signal::Pending(queue))),
            }
        }
        let notes = self.here.announce(pending);
        let mut parts = self.others.parts.lock();
        parts.add(notes);
        parts.check(again);
        Ok(())
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
