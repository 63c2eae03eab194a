//! Reading queues and tasks.

use asynqueue_core::{
    broker::{BrokerError, HourStats, Node, QueueStats, TaskInfo},
    task::{Name, TaskRef, TaskState, Timestamp},
};
use tokio_postgres::Row;

use super::{
    PostgresBroker,
    edit::LOOK,
    lease::{place_of, queues_of},
    row::Whole,
};
use crate::sql::{
    Call,
    values::{blobs, id_bytes, ints, texts, timestamp},
};

const QUEUES: &str = "select q.name from asynqueue.queue q where q.name is not null \
     and (q.is_used or exists (select from asynqueue.tally t where t.queue = q.id)) order by q.name";

/// The states in the order of their columns.
const COUNTED: [TaskState; 7] = [
    TaskState::Pending,
    TaskState::Scheduled,
    TaskState::Active,
    TaskState::Retry,
    TaskState::Completed,
    TaskState::Archived,
    TaskState::Aggregating,
];

const STATS: &str = "with sums as (select queue, sum(pending) as pending, sum(scheduled) as scheduled, sum(active) as active, \
     sum(retry) as retry, sum(completed) as completed, sum(archived) as archived, sum(aggregating) as aggregating, \
     sum(succeeded) as succeeded, sum(failed) as failed, sum(lost) as lost from asynqueue.tally group by queue) \
     select u.ord::integer, q.paused, (q.pending + coalesce(s.pending, 0))::bigint, (q.scheduled + coalesce(s.scheduled, 0))::bigint, \
     (q.active + coalesce(s.active, 0))::bigint, (q.retry + coalesce(s.retry, 0))::bigint, (q.completed + coalesce(s.completed, 0))::bigint, \
     (q.archived + coalesce(s.archived, 0))::bigint, (q.aggregating + coalesce(s.aggregating, 0))::bigint, \
     (q.succeeded + coalesce(s.succeeded, 0))::bigint, (q.failed + coalesce(s.failed, 0))::bigint, \
     (q.lost + coalesce(s.lost, 0))::bigint, \
     q.archive_max, q.trimmed_by_count, q.trimmed_by_age, q.last_trimmed, \
     (select r.at from asynqueue.ready r where r.queue = q.id order by r.rank, r.place limit 1), asynqueue.now_at($2) \
     from unnest($1) with ordinality u(name, ord) join asynqueue.queue q on q.name = u.name \
     left join sums s on s.queue = q.id";

const HISTORY: &str = "select h.ord::integer, h.hour, sum(h.succeeded)::bigint, sum(h.failed)::bigint, sum(h.lost)::bigint from ( \
     select u.ord, o.hour, o.succeeded, o.failed, o.lost from unnest($1) with ordinality u(name, ord) \
     join asynqueue.queue q on q.name = u.name join asynqueue.hour o on o.queue = q.id \
     union all select u.ord, t.hour, t.succeeded, t.failed, t.lost from unnest($1) with ordinality u(name, ord) \
     join asynqueue.queue q on q.name = u.name join asynqueue.tally t on t.queue = q.id \
     where t.succeeded > 0 or t.failed > 0 or t.lost > 0) h where h.hour >= $2 group by h.ord, h.hour order by h.ord, h.hour";

/// The mean size of a thousand tasks of each queue.
const SAMPLE: &str = "select u.ord::integer, (select avg(pg_column_size(s.*)) from ( \
     select * from asynqueue.task k where k.queue = q.id limit 1000) s)::float8 \
     from unnest($1) with ordinality u(name, ord) join asynqueue.queue q on q.name = u.name";

/// What a task takes beside its row: the pointer to it, its two index entries, its part of a range, and the pages that
/// are not full.
const OVERHEAD: f64 = 75.0;

const NODE: &str = "select current_setting('server_version'), pg_database_size(current_database()), \
     (select count(*) from pg_stat_activity where datname = current_database()), current_setting('max_connections'), \
     coalesce((select sum(n_dead_tup) from pg_stat_all_tables where relid in ('asynqueue.task'::regclass, \
     'asynqueue.ready'::regclass, 'asynqueue.lease'::regclass, 'asynqueue.later'::regclass, 'asynqueue.tally'::regclass)), \
     0)::bigint";

impl PostgresBroker {
    pub(super) async fn known_queues(&self) -> Result<Vec<Name>, BrokerError> {
        let rows = self.link().call(&Call::new(QUEUES, [])).await?;
        Ok(rows
            .iter()
            .map(|row| Name::from(row.get::<_, String>(0)))
            .collect())
    }

    pub(super) async fn stats_of(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        let call = Call::new(STATS, [texts(queues), self.link().fixed()]);
        let rows = self.link().call(&call).await?;
        let mut stats = vec![QueueStats::default(); queues.len()];
        for row in &rows {
            self.link().note_time(row.get(17));
            if let Some(one) = stats.get_mut(place_of(row)?) {
                *one = of_row(row);
            }
        }
        Ok(stats)
    }

    pub(super) async fn look_all(
        &self,
        tasks: &[TaskRef],
    ) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        let (names, of) = queues_of(tasks.iter().map(|task| &task.queue));
        let ids = tasks.iter().map(|task| id_bytes(&task.id));
        let call = Call::new(LOOK, [texts(names), ints(of), blobs(ids)]);
        let mut found: Vec<_> = tasks.iter().map(|_| None).collect();
        for row in &self.link().call(&call).await? {
            let place = place_of(row)?;
            if let (Some(task), Some(one)) = (tasks.get(place), found.get_mut(place)) {
                *one = Some(Whole::of(row)?.info(&task.queue)?);
            }
        }
        Ok(found)
    }

    pub(super) async fn history_of(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        let hour = |time: Timestamp| time.as_millis() / HourStats::MILLIS;
        let oldest = hour(self.link().now())
            .saturating_sub(HourStats::KEPT)
            .max(hour(since));
        let oldest = usize::try_from(oldest).unwrap_or(usize::MAX);
        let call = Call::new(HISTORY, [texts(queues), crate::sql::values::int(oldest)]);
        let mut found = vec![Vec::new(); queues.len()];
        for row in &self.link().call(&call).await? {
            let number = |column| u64::try_from(row.get::<_, i64>(column)).unwrap_or_default();
            let hour = u64::try_from(row.get::<_, i32>(1)).unwrap_or_default();
            let start = Timestamp::from_millis(hour * HourStats::MILLIS);
            if let Some(hours) = found.get_mut(place_of(row)?) {
                hours.push(HourStats::new(start, number(2), number(3)).with_lost(number(4)));
            }
        }
        Ok(found)
    }

    /// The bytes of each queue, estimated from a sample.
    pub(super) async fn memory_of(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        let call = Call::new(SAMPLE, [texts(queues)]);
        let samples = self.link().call(&call).await?;
        let stats = self.stats_of(queues).await?;
        let mut found = vec![Some(0); queues.len()];
        for row in &samples {
            let (place, mean) = (place_of(row)?, row.get::<_, Option<f64>>(1));
            if let (Some(one), Some(stats), Some(mean)) =
                (found.get_mut(place), stats.get(place), mean)
            {
                *one = Some(((mean + OVERHEAD) * stats.total() as f64) as u64);
            }
        }
        Ok(found)
    }

    pub(super) async fn the_node(&self) -> Result<Vec<Node>, BrokerError> {
        let rows = self.link().call(&Call::new(NODE, [])).await?;
        let node = |row: &Row| {
            let version = format!("postgresql {}", row.get::<_, String>(0));
            let mut node = Node::new(self.link().server.clone(), version);
            node.memory = u64::try_from(row.get::<_, i64>(1)).ok();
            node.info = vec![
                ("database".into(), self.0.database.clone()),
                ("schema".into(), self.link().schema.name().to_owned()),
                (
                    "connections".into(),
                    format!("{} of {}", row.get::<_, i64>(2), row.get::<_, String>(3)),
                ),
                ("dead rows".into(), row.get::<_, i64>(4).to_string()),
            ];
            node
        };
        Ok(rows.iter().map(node).collect())
    }
}

fn of_row(row: &Row) -> QueueStats {
    let number = |column: usize| row.get::<_, i64>(column).max(0) as u64;
    let mut stats = QueueStats::default();
    stats.paused = row.get(1);
    for (place, state) in COUNTED.into_iter().enumerate() {
        let tasks = number(2 + place);
        if tasks > 0 {
            stats.counts.insert(state, tasks);
        }
    }
    (stats.succeeded, stats.failed, stats.lost) = (number(9), number(10), number(11));
    stats.archive.max = row.get::<_, Option<i64>>(12).map(|max| max as u64);
    stats.archive.trimmed_by_count = number(13);
    stats.archive.trimmed_by_age = number(14);
    stats.archive.last_trimmed = row.get::<_, Option<i64>>(15).map(timestamp);
    let since = row.get::<_, Option<i64>>(16).map(timestamp);
    let now = timestamp(row.get(17));
    stats.latency = since.map_or_else(Default::default, |since| now.since(since));
    stats
}
