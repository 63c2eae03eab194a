//! Reading queues and tasks.

use asynqueue_core::{
    broker::{BrokerError, HourStats, Node, QueueStats, TaskInfo},
    task::{Name, TaskRef, Timestamp},
};
use rusqlite::{OptionalExtension, params};

use super::{SqliteBroker, edit::ONE, row::Whole};
use crate::{
    change::{COUNTED, NEXT_DUE},
    link::View,
    sql::{Fault, Id, timestamp},
};

const STATS: &str = "select id, paused, pending, scheduled, active, retry, completed, archived, aggregating, succeeded, \
     failed, lost, archive_max, trimmed_by_count, trimmed_by_age, last_trimmed from asynqueue_queue where name = ?1";

/// Since when the next task has been pending.
pub(crate) const WAITING_SINCE: &str = "select t.at from asynqueue_ready r \
     cross join asynqueue_task t on t.queue = r.queue and t.id = r.id \
     where r.queue = ?1 order by r.rank, r.turn limit 1";

/// The mean size of the envelopes of a thousand tasks.
pub(crate) const SAMPLE: &str = "select avg(length(envelope)) from (select envelope from asynqueue_task where queue = ?1 limit 1000)";

/// What a task takes beside its envelope: its id twice, its times and the pages that are not full.
const OVERHEAD: f64 = 90.0;

impl SqliteBroker {
    pub(super) async fn known_queues(&self) -> Result<Vec<Name>, BrokerError> {
        let read = |view: &View<'_>| {
            let used =
                "select name from asynqueue_queue where is_used and name is not null order by name";
            let mut used = view.db.prepare_cached(used)?;
            let names = used.query_map([], |row| Ok(Name::from(row.get::<_, String>(0)?)))?;
            Ok(names.collect::<Result<_, _>>()?)
        };
        self.link().read(read).await
    }

    pub(super) async fn stats_of(&self, queues: &[Name]) -> Result<Vec<QueueStats>, BrokerError> {
        let queues = queues.to_vec();
        let read = move |view: &View<'_>| queues.iter().map(|name| view.stats(name)).collect();
        self.link().read(read).await
    }

    pub(super) async fn look_all(
        &self,
        tasks: &[TaskRef],
    ) -> Result<Vec<Option<TaskInfo>>, BrokerError> {
        let wanted = tasks.to_vec();
        let read = move |view: &View<'_>| {
            wanted
                .iter()
                .map(|task| view.whole(task))
                .collect::<Result<Vec<_>, _>>()
        };
        let found = self.link().read(read).await?;
        let info = |(task, found): (&TaskRef, Option<Whole>)| {
            found.map(|found| found.info(&task.queue)).transpose()
        };
        tasks.iter().zip(found).map(info).collect()
    }

    pub(super) async fn history_of(
        &self,
        queues: &[Name],
        since: Timestamp,
    ) -> Result<Vec<Vec<HourStats>>, BrokerError> {
        let queues = queues.to_vec();
        let read = move |view: &View<'_>| {
            queues
                .iter()
                .map(|name| view.history(name, since))
                .collect()
        };
        self.link().read(read).await
    }

    pub(super) async fn memory_of(&self, queues: &[Name]) -> Result<Vec<Option<u64>>, BrokerError> {
        let queues = queues.to_vec();
        let read = move |view: &View<'_>| queues.iter().map(|name| view.memory(name)).collect();
        self.link().read(read).await
    }

    pub(super) async fn the_node(&self) -> Result<Vec<Node>, BrokerError> {
        let address = self.link().file.name().replace('`', "");
        let read = move |view: &View<'_>| {
            let number = |name: &str| {
                view.db
                    .pragma_query_value(None, name, |row| row.get::<_, i64>(0))
            };
            let (size, pages, free) = (
                number("page_size")?,
                number("page_count")?,
                number("freelist_count")?,
            );
            let mut node = Node::new(address.clone(), format!("sqlite {}", rusqlite::version()));
            node.memory = Some(((pages - free) * size) as u64);
            node.info = vec![
                ("pages".into(), pages.to_string()),
                ("free pages".into(), free.to_string()),
            ];
            Ok(vec![node])
        };
        self.link().read(read).await
    }
}

impl View<'_> {
    /// The number of a queue. `None` if it does not exist.
    pub(super) fn queue(&self, name: &Name) -> Result<Option<i64>, Fault> {
        let mut queue = self
            .db
            .prepare_cached("select id from asynqueue_queue where name = ?1")?;
        Ok(queue
            .query_row([name.as_str()], |row| row.get(0))
            .optional()?)
    }

    pub(super) fn next_due(&self, name: &Name) -> Result<Option<Timestamp>, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(None);
        };
        let next: Option<i64> = self
            .db
            .prepare_cached(NEXT_DUE)?
            .query_row([queue], |row| row.get(0))?;
        Ok(next.map(timestamp))
    }

    /// A task with everything that is stored about it.
    pub(super) fn whole(&self, task: &TaskRef) -> Result<Option<Whole>, Fault> {
        let Some(queue) = self.queue(&task.queue)? else {
            return Ok(None);
        };
        let mut one = self.db.prepare_cached(ONE)?;
        let mut rows = one.query(params![queue, Id::of(&task.id)])?;
        rows.next()?.map(Whole::of).transpose()
    }

    fn stats(&self, name: &Name) -> Result<QueueStats, Fault> {
        let mut stats = QueueStats::default();
        let mut statement = self.db.prepare_cached(STATS)?;
        let mut rows = statement.query([name.as_str()])?;
        let Some(row) = rows.next()? else {
            return Ok(stats);
        };
        let number = |column| Ok::<_, Fault>(row.get::<_, i64>(column)? as u64);
        stats.paused = row.get::<_, i64>(1)? != 0;
        for (place, state) in COUNTED.into_iter().enumerate() {
            let tasks = number(2 + place)?;
            if tasks > 0 {
                stats.counts.insert(state, tasks);
            }
        }
        (stats.succeeded, stats.failed, stats.lost) = (number(9)?, number(10)?, number(11)?);
        stats.archive.max = row.get::<_, Option<i64>>(12)?.map(|max| max as u64);
        stats.archive.trimmed_by_count = number(13)?;
        stats.archive.trimmed_by_age = number(14)?;
        stats.archive.last_trimmed = row.get::<_, Option<i64>>(15)?.map(timestamp);
        let mut since = self.db.prepare_cached(WAITING_SINCE)?;
        let since = since
            .query_row([row.get::<_, i64>(0)?], |row| row.get(0))
            .optional()?;
        stats.latency =
            since.map_or_else(Default::default, |since| self.now.since(timestamp(since)));
        Ok(stats)
    }

    fn history(&self, name: &Name, since: Timestamp) -> Result<Vec<HourStats>, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(Vec::new());
        };
        let hour = |time: Timestamp| time.as_millis() / HourStats::MILLIS;
        let oldest = hour(self.now)
            .saturating_sub(HourStats::KEPT)
            .max(hour(since));
        let hours = "select hour, succeeded, failed, lost from asynqueue_hour where queue = ?1 and hour >= ?2 order by hour";
        let mut hours = self.db.prepare_cached(hours)?;
        let stats = |row: &rusqlite::Row<'_>| {
            let number = |column| Ok::<_, rusqlite::Error>(row.get::<_, i64>(column)? as u64);
            let start = Timestamp::from_millis(number(0)? * HourStats::MILLIS);
            Ok(HourStats::new(start, number(1)?, number(2)?).with_lost(number(3)?))
        };
        let oldest = i64::try_from(oldest).unwrap_or(i64::MAX);
        Ok(hours
            .query_map(params![queue, oldest], stats)?
            .collect::<Result<_, _>>()?)
    }

    /// The bytes of a queue in the file, estimated from a sample.
    fn memory(&self, name: &Name) -> Result<Option<u64>, Fault> {
        let Some(queue) = self.queue(name)? else {
            return Ok(Some(0));
        };
        let mean: Option<f64> = self
            .db
            .prepare_cached(SAMPLE)?
            .query_row([queue], |row| row.get(0))?;
        let tasks: u64 = self.stats(name)?.total();
        Ok(Some(mean.map_or(0, |mean| {
            ((mean + OVERHEAD) * tasks as f64) as u64
        })))
    }
}
