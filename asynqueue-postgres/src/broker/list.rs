//! Lists of tasks, a page at a time.

use asynqueue_core::{
    broker::{BrokerError, Cursor, Page, TaskPage},
    task::{Name, TaskState},
};
use tokio_postgres::Row;

use super::{
    PostgresBroker,
    row::{Whole, whole},
};
use crate::sql::{
    Call, Value,
    values::{int, long, text},
};

// The limit is inside: whatever is joined to a page, no plan reads the rest of the list.

/// A turn of a range has the place of the range, and as much more as it is after the first turn.
const PENDING: &str = whole!(
    "y.rank::text || ':' || y.place",
    "(select r.rank, r.place + k.turn - r.first as place, k.turn from asynqueue.ready r \
     join asynqueue.task k on k.turn >= r.first and k.turn <= r.last \
     where r.queue = (select id from asynqueue.queue where name = $1) and (r.rank, r.place) > ($2, $3 - 1024) \
     and (r.rank, r.place + k.turn - r.first) > ($2, $3) \
     order by r.rank, r.place, k.turn limit $4) y join asynqueue.task k on k.turn = y.turn",
    "order by y.rank, y.place"
);

const LAST_PENDING: &str = whole!(
    "y.rank::text || ':' || y.place",
    "(select r.rank, r.place + k.turn - r.first as place, k.turn from asynqueue.ready r \
     join asynqueue.task k on k.turn >= r.first and k.turn <= r.last \
     where r.queue = (select id from asynqueue.queue where name = $1) and (r.rank, r.place) < ($2, $3) \
     and (r.rank, r.place + k.turn - r.first) < ($2, $3) \
     order by r.rank desc, r.place desc, k.turn desc limit $4) y join asynqueue.task k on k.turn = y.turn",
    "order by y.rank desc, y.place desc"
);

/// By time, forwards.
const UP: &str = whole!(
    "y.at || ':' || y.turn",
    "(select at, turn from asynqueue.later where queue = (select id from asynqueue.queue where name = $1) \
     and state = $2 and (at, turn) > ($3, $4) order by at, turn limit $5) y \
     join asynqueue.task k on k.turn = y.turn",
    "order by y.at, y.turn"
);

/// By time, backwards.
const DOWN: &str = whole!(
    "y.at || ':' || y.turn",
    "(select at, turn from asynqueue.later where queue = (select id from asynqueue.queue where name = $1) \
     and state = $2 and (at, turn) < ($3, $4) order by at desc, turn desc limit $5) y \
     join asynqueue.task k on k.turn = y.turn",
    "order by y.at desc, y.turn desc"
);

const ACTIVE: &str = whole!(
    "y.until || ':' || y.turn",
    "(select until, turn from asynqueue.lease where queue = (select id from asynqueue.queue where name = $1) \
     and (until, turn) > ($2, $3) order by until, turn limit $4) y join asynqueue.task k on k.turn = y.turn",
    "order by y.until, y.turn"
);

const LAST_ACTIVE: &str = whole!(
    "y.until || ':' || y.turn",
    "(select until, turn from asynqueue.lease where queue = (select id from asynqueue.queue where name = $1) \
     and (until, turn) < ($2, $3) order by until desc, turn desc limit $4) y join asynqueue.task k on k.turn = y.turn",
    "order by y.until desc, y.turn desc"
);

/// By event and group, then oldest first.
const AGGREGATING: &str = whole!(
    "y.place::text",
    "(select y.turn, row_number() over (order by p.event, p.name, p.first, p.tries, y.at, y.id) as place \
     from asynqueue.\"group\" p join asynqueue.member y on y.\"group\" = p.id \
     where p.queue = (select id from asynqueue.queue where name = $1) \
     order by p.event, p.name, p.first, p.tries, y.at, y.id limit $2 offset $3) y \
     join asynqueue.task k on k.turn = y.turn",
    "order by y.place"
);

const LAST_AGGREGATING: &str = whole!(
    "y.place::text",
    "(select y.turn, row_number() over (order by p.event desc, p.name desc, p.first desc, p.tries desc, y.at desc, \
     y.id desc) as place \
     from asynqueue.\"group\" p join asynqueue.member y on y.\"group\" = p.id \
     where p.queue = (select id from asynqueue.queue where name = $1) \
     order by p.event desc, p.name desc, p.first desc, p.tries desc, y.at desc, y.id desc limit $2 offset $3) y \
     join asynqueue.task k on k.turn = y.turn",
    "order by y.place"
);

impl PostgresBroker {
    pub(super) async fn list_page(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        let Some(call) = call(queue, state, &page) else {
            return Ok(TaskPage::new(Vec::new(), None));
        };
        let mut rows = self.link().call(&call).await?;
        let next = match rows.get(page.limit.wrapping_sub(1)) {
            Some(last) if rows.len() > page.limit => Some(Cursor(last.get(0))),
            _ => None,
        };
        rows.truncate(page.limit);
        let info = |row: &Row| Whole::of(row)?.info(queue);
        let tasks = rows.iter().map(info).collect::<Result<_, _>>()?;
        Ok(TaskPage::new(tasks, next))
    }
}

/// One task more than the page has. `None` for a state that is not listed.
fn call(queue: &Name, state: TaskState, page: &Page) -> Option<Call> {
    let after = page.after.as_ref().map(|cursor| cursor.0.as_str());
    let numbers = |reversed: bool| {
        let outside = if reversed { i64::MAX } else { -1 };
        after.and_then(numbers).unwrap_or((outside, outside))
    };
    let (name, limit) = (text(queue), int(page.limit.saturating_add(1)));
    let by_time = |number, reversed| {
        let (at, turn) = numbers(reversed);
        let sql = if reversed { DOWN } else { UP };
        Call::new(
            sql,
            [
                name.clone(),
                Value::Short(number),
                long(at),
                long(turn),
                limit.clone(),
            ],
        )
    };
    Some(match state {
        TaskState::Pending => {
            let (sql, outside) = match page.reversed {
                true => (LAST_PENDING, (i16::MAX, i64::MAX)),
                false => (PENDING, (i16::MIN, 0)),
            };
            let place = after.and_then(self::numbers);
            let place = place.and_then(|(rank, place)| Some((i16::try_from(rank).ok()?, place)));
            let (rank, place) = place.unwrap_or(outside);
            Call::new(sql, [name, Value::Short(rank), long(place), limit])
        }
        TaskState::Active => {
            let (until, turn) = numbers(page.reversed);
            let sql = if page.reversed { LAST_ACTIVE } else { ACTIVE };
            Call::new(sql, [name, long(until), long(turn), limit])
        }
        TaskState::Aggregating => {
            let skipped = after.and_then(|after| after.parse().ok()).unwrap_or(0_i64);
            let sql = match page.reversed {
                true => LAST_AGGREGATING,
                false => AGGREGATING,
            };
            Call::new(sql, [name, limit, long(skipped)])
        }
        TaskState::Scheduled => by_time(3, page.reversed),
        TaskState::Retry => by_time(4, page.reversed),
        TaskState::Completed => by_time(5, !page.reversed),
        TaskState::Archived => by_time(6, !page.reversed),
        _ => return None,
    })
}

fn numbers(after: &str) -> Option<(i64, i64)> {
    let (first, second) = after.split_once(':')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}
