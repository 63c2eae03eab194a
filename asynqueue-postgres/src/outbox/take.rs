//! The next entries, and the numbers that they get: in one transaction that holds the turn.
//!
//! A transaction of the application that began earlier may commit later, so places say nothing about commits. A number
//! does: only entries that are committed get one, each a higher one than all before. An entry that becomes visible later
//! is behind them, and none is skipped.

use asynqueue_core::{
    outbox::{Entry, StoredTask, Take, Taken, next_number},
    task::{Name, Timestamp},
};
use tokio_postgres::Row;

use super::table::{signed, unsigned};
use crate::{
    link::{Change, Fault, Make},
    sql::{
        Call, Value,
        values::{duration, int, long, longs, text, texts, timestamp},
    },
};

/// The queues that have waiting entries, each found by the index, so that the backlog of one that is not sent to costs
/// nothing.
macro_rules! queues {
    () => {
        "with recursive queues (queue) as ( \
             (select o.queue from asynqueue.outbox o where o.failure is null order by o.queue limit 1) \
             union all \
             select (select o.queue from asynqueue.outbox o where o.failure is null and o.queue > q.queue \
                 order by o.queue limit 1) \
             from queues q where q.queue is not null) "
    };
}

/// The turn, and whether there is an entry to take. Changes nothing.
const LOOK: &str = concat!(
    queues!(),
    "select m.id, m.last, m.relay, m.until, \
         coalesce($2, floor(extract(epoch from clock_timestamp()) * 1000)::bigint), \
         exists (select from queues q where q.queue <> all ($1)) \
     from asynqueue.outbox_meta m"
);

/// Someone has emptied the table. The outbox starts anew.
const BEGIN_ANEW: &str =
    "insert into asynqueue.outbox_meta (version, usable_from) values (1, 1) on conflict do nothing";

/// Locks the turn. The commit waits for the disk, whatever the session has set: a number that was sent must not be lost.
/// Without sorts, the next entries are read in the order of the index, and not chosen from the whole backlog of a queue:
/// the planner does so while it has no statistics of the backlog.
const LOCK: &str = "select m.id, m.last, m.relay, m.until, \
         coalesce($1, floor(extract(epoch from clock_timestamp()) * 1000)::bigint), \
         set_config('synchronous_commit', 'on', true), set_config('enable_sort', 'off', true) \
     from asynqueue.outbox_meta m for update";

/// The next entries, queue by queue. Those beyond the bytes have no envelope.
const NEXT: &str = concat!(
    queues!(),
    "select n.place, n.number, n.queue, n.task, n.event, n.due, n.at, \
         case when n.bytes <= $3 or n.nth = 1 then n.envelope end \
     from ( \
         select o.*, row_number() over () nth, \
             sum(octet_length(o.envelope)) over (rows unbounded preceding) bytes \
         from queues q cross join lateral ( \
             select e.* from asynqueue.outbox e where e.failure is null and e.queue = q.queue \
             order by e.number, e.place limit $2) o \
         where q.queue <> all ($1) limit $2) n"
);

/// Numbers entries, and extends the turn.
const NUMBER: &str = "with numbered as ( \
         update asynqueue.outbox o set number = n.number from unnest($1, $2) n (place, number) where o.place = n.place) \
     update asynqueue.outbox_meta set last = $3, relay = $4, until = $5";

/// A turn, as a relay knows it after a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    relay: String,
    until: Timestamp,
}

/// The row of `outbox_meta`, and the time.
pub(super) struct Meta {
    id: Name,
    last: u64,
    relay: Option<String>,
    until: Timestamp,
    now: Timestamp,
}

impl Meta {
    fn of(row: &Row) -> Self {
        Self {
            id: row.get::<_, String>(0).into(),
            last: unsigned(row.get(1)),
            relay: row.get(2),
            until: timestamp(row.get(3)),
            now: timestamp(row.get(4)),
        }
    }

    /// Whether another relay has the turn. A turn that lasts for longer than it can is of a clock that was set back.
    fn is_busy(&self, take: &Take<'_>) -> bool {
        let is_running = self.until > self.now && self.until <= self.now + take.turn;
        self.relay.is_some() && !self.is_of(take) && is_running
    }

    fn is_of(&self, take: &Take<'_>) -> bool {
        self.relay.as_deref() == Some(take.relay.as_str())
    }

    /// Whether the turn need not be extended now.
    fn lasts(&self, take: &Take<'_>) -> bool {
        self.is_of(take)
            && self.until > self.now + take.turn / 2
            && self.until <= self.now + take.turn
    }

    fn turn(&self) -> Option<Turn> {
        let until = self.until;
        let relay = self.relay.clone()?;
        Some(Turn { relay, until })
    }
}

/// The result of [`Outbox::take`](asynqueue_core::outbox::Outbox::take), and the turn that it has led to.
type Result = (Taken, Option<Turn>);

/// Taking entries. The turn is new unless it is the one that the relay knows: the response that has brought another one
/// was lost, or another relay had its turn in between.
pub(super) struct Taking<'t> {
    pub(super) take: &'t Take<'t>,
    pub(super) known: Option<Turn>,
}

impl Taking<'_> {
    /// Looks whether there is anything to do.
    pub(super) fn look(&self, fixed: Value) -> Call {
        Call::new(LOOK, [texts(self.take.except), fixed])
    }

    pub(super) fn begin_anew() -> Call {
        Call::new(BEGIN_ANEW, [])
    }

    /// The result, if there is nothing to do.
    pub(super) fn idle(&self, row: &Row) -> Option<Result> {
        let meta = Meta::of(row);
        let is_any = row.get::<_, bool>(5) && self.take.limit > 0;
        if meta.is_busy(self.take) {
            return Some((Taken::Busy, self.known.clone()));
        }
        if is_any || !meta.lasts(self.take) {
            return None;
        }
        let turn = meta.turn();
        let taken = Taken::Turn {
            is_new: turn != self.known,
            outbox: meta.id,
            entries: Vec::new(),
            more: false,
        };
        Some((taken, turn))
    }

    /// The next entries, each with its number if it has one, and whether there are more.
    async fn next(
        &self,
        change: &Change<'_>,
    ) -> std::result::Result<(Vec<(Entry, Timestamp)>, bool), Fault> {
        let take = self.take;
        let bytes = i64::try_from(take.bytes).unwrap_or(i64::MAX);
        let values = [texts(take.except), int(take.limit), long(bytes)];
        let rows = change.run(Call::new(NEXT, values)).await?;
        let mut entries: Vec<_> = rows.iter().map_while(entry).collect();
        let more = entries.len() < rows.len() || rows.len() == take.limit;
        // A query does not promise the order of its parts.
        entries.sort_by(|(one, _), (other, _)| order(one).cmp(&order(other)));
        Ok((entries, more))
    }
}

/// The order within a queue: by the number, and those without one behind the others.
fn order(entry: &Entry) -> (&str, bool, u64, u64) {
    let queue = entry.task.queue.as_str();
    (queue, !entry.was_sent, entry.number, entry.place)
}

/// An entry, and when it was written. `None` if it has too many bytes to be taken now.
fn entry(row: &Row) -> Option<(Entry, Timestamp)> {
    let number: Option<i64> = row.get(1);
    let entry = Entry {
        place: unsigned(row.get(0)),
        number: number.map_or(0, unsigned),
        was_sent: number.is_some(),
        task: StoredTask {
            queue: row.get(2),
            id: row.get(3),
            event: row.get(4),
            envelope: row.get::<_, Option<Vec<u8>>>(7)?,
            due: row.get::<_, Option<i64>>(5).map(timestamp),
        },
    };
    Some((entry, timestamp(row.get(6))))
}

#[async_trait::async_trait]
impl Make<Result> for Taking<'_> {
    async fn make(&mut self, change: &mut Change<'_>) -> std::result::Result<Result, Fault> {
        let take = self.take;
        let locked = change.run(Call::new(LOCK, [change.fixed()])).await?;
        let Some(meta) = locked.first().map(Meta::of) else {
            // It was there a moment ago.
            return Ok((Taken::Busy, None));
        };
        if meta.is_busy(take) {
            return Ok((Taken::Busy, self.known.clone()));
        }
        let (next, more) = self.next(change).await?;
        let mut last = meta.last;
        let (mut entries, mut numbered) = (Vec::with_capacity(next.len()), Vec::new());
        for (mut entry, at) in next {
            if !entry.was_sent {
                last = next_number(last, at);
                entry.number = last;
                numbered.push((signed(entry.place), signed(last)));
            }
            entries.push(entry);
        }
        let turn = Turn {
            relay: take.relay.to_string(),
            // As the column has it.
            until: meta.now + std::time::Duration::from_millis(duration(take.turn) as u64),
        };
        let values = [
            longs(numbered.iter().map(|(place, _)| *place)),
            longs(numbered.iter().map(|(_, number)| *number)),
            long(signed(last)),
            text(take.relay),
            long(signed(turn.until.as_millis())),
        ];
        change.run(Call::new(NUMBER, values)).await?;
        let taken = Taken::Turn {
            is_new: meta.turn() != self.known || !meta.is_of(take),
            outbox: meta.id,
            entries,
            more,
        };
        Ok((taken, Some(turn)))
    }
}
