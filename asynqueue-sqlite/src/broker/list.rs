//! Lists of tasks, a page at a time.

use asynqueue_core::{
    broker::{BrokerError, Cursor, Page, TaskPage},
    task::{Name, TaskId, TaskState},
};
use rusqlite::{Params, params};

use super::{
    SqliteBroker,
    row::{Whole, whole},
};
use crate::{
    change::state,
    link::View,
    sql::{Fault, Id, millis},
};

pub(crate) const PENDING: &str = whole!(
    ", q.rank",
    "asynqueue_ready q cross join asynqueue_task t on t.queue = q.queue and t.id = q.id",
    "where q.queue = ?1 and (q.rank, q.turn) > (?2, ?3) order by q.rank, q.turn limit ?4"
);

pub(crate) const LAST_PENDING: &str = whole!(
    ", q.rank",
    "asynqueue_ready q cross join asynqueue_task t on t.queue = q.queue and t.id = q.id",
    "where q.queue = ?1 and (q.rank, q.turn) < (?2, ?3) order by q.rank desc, q.turn desc limit ?4"
);

/// By time, forwards.
pub(crate) const UP: &str = whole!(
    "",
    "asynqueue_task t",
    "where t.queue = ?1 and t.state > 2 and t.state = ?2 and (t.at, t.id) > (?3, ?4) order by t.at, t.id limit ?5"
);

/// By time, backwards.
pub(crate) const DOWN: &str = whole!(
    "",
    "asynqueue_task t",
    "where t.queue = ?1 and t.state > 2 and t.state = ?2 and (t.at, t.id) < (?3, ?4) order by t.at desc, t.id desc limit ?5"
);

pub(crate) const ACTIVE: &str = whole!(
    "",
    "asynqueue_lease q cross join asynqueue_task t on t.queue = q.queue and t.id = q.id",
    "where q.queue = ?1 and (q.until, q.id) > (?2, ?3) order by q.until, q.id limit ?4"
);

pub(crate) const LAST_ACTIVE: &str = whole!(
    "",
    "asynqueue_lease q cross join asynqueue_task t on t.queue = q.queue and t.id = q.id",
    "where q.queue = ?1 and (q.until, q.id) < (?2, ?3) order by q.until desc, q.id desc limit ?4"
);

/// By event and group, then oldest first.
pub(crate) const AGGREGATING: &str = whole!(
    "",
    "asynqueue_group q cross join asynqueue_task t on t.queue = q.queue and t.turn = q.id and t.state = 7",
    "where q.queue = ?1 order by q.event, q.name, q.first, q.tries, t.at, t.id limit ?2 offset ?3"
);

pub(crate) const LAST_AGGREGATING: &str = whole!(
    "",
    "asynqueue_group q cross join asynqueue_task t on t.queue = q.queue and t.turn = q.id and t.state = 7",
    "where q.queue = ?1 order by q.event desc, q.name desc, q.first desc, q.tries desc, t.at desc, t.id desc limit ?2 offset ?3"
);

/// Before the first id, which is text.
const FIRST: Id<'_> = Id::Text("");
/// After the last id, which is a number.
const LAST: Id<'_> = Id::Number([u8::MAX; 16]);

impl SqliteBroker {
    pub(super) async fn list_page(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        let name = queue.clone();
        let limit = page.limit;
        let mut found = self
            .link()
            .read(move |view| view.list(&name, state, &page))
            .await?;
        let next = match found.get(limit.wrapping_sub(1)) {
            Some((_, cursor)) if found.len() > limit => Some(Cursor(cursor.clone())),
            _ => None,
        };
        found.truncate(limit);
        let tasks = found.into_iter().map(|(task, _)| task.info(queue));
        Ok(TaskPage::new(tasks.collect::<Result<_, _>>()?, next))
    }
}

/// A task of a list, and the place after it.
type Listed = (Whole, String);

impl View<'_> {
    /// One task more than the page has.
    fn list(&self, name: &Name, of: TaskState, page: &Page) -> Result<Vec<Listed>, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(Vec::new());
        };
        let limit = i64::try_from(page.limit)
            .unwrap_or(i64::MAX)
            .saturating_add(1);
        let after = page.after.as_ref().map(|cursor| cursor.0.as_str());
        let by_time = |state: i64, reversed: bool| {
            let (at, id) = place(after, reversed);
            let id = id.as_ref().map_or(outside(reversed), Id::of);
            let sql = if reversed { DOWN } else { UP };
            self.rows(sql, params![queue, state, at, id, limit], by_at)
        };
        match of {
            TaskState::Pending => {
                let (sql, first) = match page.reversed {
                    true => (LAST_PENDING, i64::MAX),
                    false => (PENDING, i64::MIN),
                };
                let (rank, turn) = numbers(after).unwrap_or((first, first));
                let cursor = |row: &rusqlite::Row<'_>, task: &Whole| {
                    Ok(format!("{}:{}", row.get::<_, i64>(14)?, task.turn))
                };
                self.rows(sql, params![queue, rank, turn, limit], cursor)
            }
            TaskState::Active => {
                let (until, id) = place(after, page.reversed);
                let id = id.as_ref().map_or(outside(page.reversed), Id::of);
                let sql = if page.reversed { LAST_ACTIVE } else { ACTIVE };
                let cursor = |_: &rusqlite::Row<'_>, task: &Whole| {
                    let until = task
                        .lease
                        .as_ref()
                        .map_or(0, |(_, until, _)| millis(*until));
                    Ok(format!("{until}:{}", task.stored.id))
                };
                self.rows(sql, params![queue, until, id, limit], cursor)
            }
            TaskState::Aggregating => {
                let skipped = after.and_then(|after| after.parse().ok()).unwrap_or(0_i64);
                let sql = match page.reversed {
                    true => LAST_AGGREGATING,
                    false => AGGREGATING,
                };
                let values = params![queue, limit, skipped];
                let found = self.rows(sql, values, |_, _| Ok(String::new()))?;
                let numbered = found.into_iter().zip(skipped + 1..);
                Ok(numbered
                    .map(|((task, _), place)| (task, place.to_string()))
                    .collect())
            }
            TaskState::Scheduled => by_time(state::SCHEDULED, page.reversed),
            TaskState::Retry => by_time(state::RETRY, page.reversed),
            TaskState::Completed => by_time(state::COMPLETED, !page.reversed),
            TaskState::Archived => by_time(state::ARCHIVED, !page.reversed),
            _ => Ok(Vec::new()),
        }
    }

    fn rows(
        &self,
        sql: &'static str,
        values: impl Params,
        cursor: impl Fn(&rusqlite::Row<'_>, &Whole) -> Result<String, Fault>,
    ) -> Result<Vec<Listed>, Fault> {
        let mut statement = self.db.prepare_cached(sql)?;
        let (mut rows, mut found) = (statement.query(values)?, Vec::new());
        while let Some(row) = rows.next()? {
            let task = Whole::of(row)?;
            let cursor = cursor(row, &task)?;
            found.push((task, cursor));
        }
        Ok(found)
    }
}

fn by_at(_: &rusqlite::Row<'_>, task: &Whole) -> Result<String, Fault> {
    Ok(format!("{}:{}", millis(task.at), task.stored.id))
}

/// The id before all others, or after them.
fn outside(reversed: bool) -> Id<'static> {
    if reversed { LAST } else { FIRST }
}

/// The time and the id of a cursor. Without one, a time before all others, or after them.
fn place(after: Option<&str>, reversed: bool) -> (i64, Option<TaskId>) {
    let outside = if reversed { i64::MAX } else { -1 };
    let parse = |after: &str| {
        let (at, id) = after.split_once(':')?;
        Some((at.parse().ok()?, Some(TaskId::new(id).ok()?)))
    };
    after.and_then(parse).unwrap_or((outside, None))
}

fn numbers(after: Option<&str>) -> Option<(i64, i64)> {
    let (rank, turn) = after?.split_once(':')?;
    Some((rank.parse().ok()?, turn.parse().ok()?))
}
