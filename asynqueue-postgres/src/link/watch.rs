//! Transactions of callers: what they have changed is announced once they are committed.

use std::{sync::Arc, time::Duration};

use asynqueue_core::broker::kit::io;
use parking_lot::Mutex;
use tokio_postgres::types::{ToSql, Type};

use super::{Event, News, aside::Aside};

/// The first and the longest wait between two looks at open transactions.
const FIRST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(50);

/// The status of transactions. A number that was not given yet is that of a transaction that was lost when the server
/// crashed, and will be given again: its status would be an error. The newest ones are above the snapshot while they are
/// open, with a lock on their number.
const STATUS: &str = "select number, case \
     when number::xid8 < pg_snapshot_xmax(pg_current_snapshot()) then pg_xact_status(number::xid8) \
     when exists (select from pg_locks where transactionid = number::xid8::xid) then 'in progress' end \
     from unnest($1) number";

/// A transaction, and what to announce once it is committed. A part of it may have been rolled back, so this has to be
/// true then too.
pub(crate) struct Watched {
    /// Its number, as PostgreSQL writes it.
    transaction: String,
    events: Vec<Event>,
}

impl Watched {
    pub(crate) fn new(transaction: String, events: Vec<Event>) -> Self {
        Self {
            transaction,
            events,
        }
    }
}

pub(super) struct Watch(Arc<Parts>);

struct Parts {
    aside: Aside,
    news: Arc<News>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    transactions: Vec<Watched>,
    is_watching: bool,
    /// Whether a transaction was added since the last look.
    is_new: bool,
}

impl Watch {
    pub(super) fn new(aside: Aside, news: &Arc<News>) -> Self {
        Self(Arc::new(Parts {
            aside,
            news: Arc::clone(news),
            open: Mutex::default(),
        }))
    }

    pub(super) fn add(&self, watched: Watched) {
        if watched.events.is_empty() {
            return;
        }
        let mut open = self.0.open.lock();
        open.transactions.push(watched);
        open.is_new = true;
        if open.is_watching {
            return;
        }
        open.is_watching = true;
        drop(open);
        if io::spawn(Arc::clone(&self.0).run()).is_err() {
            self.0.open.lock().is_watching = false;
        }
    }
}

impl Parts {
    async fn run(self: Arc<Self>) {
        let mut wait = FIRST;
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(LONGEST);
            let watched: Vec<String> = {
                let mut open = self.open.lock();
                if open.transactions.is_empty() {
                    open.is_watching = false;
                    return;
                }
                if std::mem::take(&mut open.is_new) {
                    wait = FIRST;
                }
                let names = open.transactions.iter();
                names.map(|one| one.transaction.clone()).collect()
            };
            match self.look(&watched).await {
                Ok(ended) => self.announce(&ended),
                Err(error) => {
                    tracing::debug!(error, "cannot look at a transaction; looking again");
                }
            }
        }
    }

    /// Which of these transactions have ended, and whether they were committed.
    async fn look(&self, watched: &Vec<String>) -> Result<Vec<(String, bool)>, String> {
        let values: [(&(dyn ToSql + Sync), Type); 1] = [(watched, Type::TEXT_ARRAY)];
        let rows = self.aside.run(STATUS, &values).await?;
        let ended = rows.iter().filter_map(|row| {
            let status: Option<&str> = row.get(1);
            match status {
                Some("in progress") => None,
                Some("aborted") => Some((row.get(0), false)),
                // Committed, or so long ago that nobody knows, or lost: then nothing is where the events point to.
                _ => Some((row.get(0), true)),
            }
        });
        Ok(ended.collect())
    }

    fn announce(&self, ended: &[(String, bool)]) {
        let mut events = Vec::new();
        let mut open = self.open.lock();
        open.transactions.retain_mut(|one| {
            let end = ended.iter().find(|(number, _)| *number == one.transaction);
            if let Some((_, true)) = end {
                events.append(&mut one.events);
            }
            end.is_none()
        });
        drop(open);
        self.news.announce(events);
    }
}
