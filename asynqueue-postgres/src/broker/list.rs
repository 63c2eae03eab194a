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

const WAITING: &str = whole!(
    "y.at || ':' || y.turn",
    "asynqueue.queue q join asynqueue.later y on y.queue = q.id and y.state = $2 \
     join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 and (y.at, y.turn) > ($3, $4) order by y.at, y.turn limit $5"
);

const ENDED: &str = whole!(
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

/// By event and group, then oldest first.
const AGGREGATING: &str = whole!(
    "($3 + row_number() over (order by p.event, p.name, p.first, p.tries, y.at, y.id))::text",
    "asynqueue.queue q join asynqueue.\"group\" p on p.queue = q.id join asynqueue.member y on y.\"group\" = p.id \
     join asynqueue.task k on k.turn = y.turn",
    "where q.name = $1 order by p.event, p.name, p.first, p.tries, y.at, y.id limit $2 offset $3"
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
    let numbers = |first: (i64, i64)| after.and_then(numbers).unwrap_or(first);
    let (name, limit) = (text(queue), int(page.limit.saturating_add(1)));
    let by_time = |sql, number, first| {
        let (at, turn) = numbers(first);
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
    const FIRST: (i64, i64) = (-1, -1);
    const LAST: (i64, i64) = (i64::MAX, i64::MAX);
    Some(match state {
        TaskState::Pending => {
            let (rank, place) = numbers((i64::from(i16::MIN), 0));
            let rank = Value::Short(i16::try_from(rank).unwrap_or(i16::MIN));
            Call::new(PENDING, [name, rank, long(place), limit])
        }
        TaskState::Active => {
            let (until, turn) = numbers(FIRST);
            Call::new(ACTIVE, [name, long(until), long(turn), limit])
        }
        TaskState::Aggregating => {
            let skipped = after.and_then(|after| after.parse().ok()).unwrap_or(0_i64);
            Call::new(AGGREGATING, [name, limit, long(skipped)])
        }
        TaskState::Scheduled => by_time(WAITING, 3, FIRST),
        TaskState::Retry => by_time(WAITING, 4, FIRST),
        TaskState::Completed => by_time(ENDED, 5, LAST),
        TaskState::Archived => by_time(ENDED, 6, LAST),
        _ => return None,
    })
}

fn numbers(after: &str) -> Option<(i64, i64)> {
    let (first, second) = after.split_once(':')?;
    Some((first.parse().ok()?, second.parse().ok()?))
}
