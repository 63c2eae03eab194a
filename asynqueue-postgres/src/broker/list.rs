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

/// A turn of a range has the place of the range, and as much more as it is after the first turn.
const PENDING: &str = whole!(
    "r.rank::text || ':' || (r.place + k.turn - r.first)",
    "asynqueue.queue q join asynqueue.ready r on r.queue = q.id \
     join asynqueue.task k on k.turn >= r.first and k.turn <= r.last",
    "where q.name = $1 and (r.rank, r.place) > ($2, $3 - 1024) and (r.rank, r.place + k.turn - r.first) > ($2, $3) \
     order by r.rank, r.place, k.turn limit $4"
);

const LAST_PENDING: &str = whole!(
    "r.rank::text || ':' || (r.place + k.turn - r.first)",
    "asynqueue.queue q join asynqueue.ready r on r.queue = q.id \
     join asynqueue.task k on k.turn >= r.first and k.turn <= r.last",
    "where q.name = $1 and (r.rank, r.place) < ($2, $3) and (r.rank, r.place + k.turn - r.first) < ($2, $3) \
     order by r.rank desc, r.place desc, k.turn desc limit $4"
);

/// By time, forwards.
const UP: &str = whole!(
    "y.at || ':' || y.turn",
    "asynqueue.queue q join asynqueue.later y on y.queue = q.id and y.state = $2 \
     join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 and (y.at, y.turn) > ($3, $4) order by y.at, y.turn limit $5"
);

/// By time, backwards.
const DOWN: &str = whole!(
    "y.at || ':' || y.turn",
    "asynqueue.queue q join asynqueue.later y on y.queue = q.id and y.state = $2 \
     join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 and (y.at, y.turn) < ($3, $4) order by y.at desc, y.turn desc limit $5"
);

const ACTIVE: &str = whole!(
    "y.until || ':' || y.turn",
    "asynqueue.queue q join asynqueue.lease y on y.queue = q.id join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 and (y.until, y.turn) > ($2, $3) order by y.until, y.turn limit $4"
);

const LAST_ACTIVE: &str = whole!(
    "y.until || ':' || y.turn",
    "asynqueue.queue q join asynqueue.lease y on y.queue = q.id join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 and (y.until, y.turn) < ($2, $3) order by y.until desc, y.turn desc limit $4"
);

/// By event and group, then oldest first.
const AGGREGATING: &str = whole!(
    "($3 + row_number() over (order by p.event, p.name, p.first, p.tries, y.at, y.id))::text",
    "asynqueue.queue q join asynqueue.\"group\" p on p.queue = q.id join asynqueue.member y on y.\"group\" = p.id \
     join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 order by p.event, p.name, p.first, p.tries, y.at, y.id limit $2 offset $3"
);

const LAST_AGGREGATING: &str = whole!(
    "($3 + row_number() over (order by p.event desc, p.name desc, p.first desc, p.tries desc, y.at desc, y.id desc))::text",
    "asynqueue.queue q join asynqueue.\"group\" p on p.queue = q.id join asynqueue.member y on y.\"group\" = p.id \
     join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 order by p.event desc, p.name desc, p.first desc, p.tries desc, y.at desc, y.id desc \
     limit $2 offset $3"
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
