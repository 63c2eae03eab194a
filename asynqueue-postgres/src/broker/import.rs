//! Tasks and statistics that come from another store.

use async_trait::async_trait;
use asynqueue_core::{
    broker::{BrokerError, Finished, HourStats, Import, Imported, Signal, TaskPlace, Totals},
    task::{Envelope, Name, TaskState, Timestamp},
};

use super::{
    PostgresBroker,
    edit::{archived, lock_columns},
};
use crate::{
    link::{Change, Event, Fault, Make},
    sql::{
        Call, Value,
        values::{duration, id_bytes, int, long, longs, rank, text, time, timestamp},
    },
};

/// Imports that are made in one transaction.
const CHUNK: usize = 100;

const ABSORBED: &str = "select 1 from asynqueue.absorbed a join asynqueue.queue q on q.id = a.queue where q.name = $1 and a.id = $2";

const ABSORB: &str =
    "select asynqueue.absorb($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)";

impl PostgresBroker {
    pub(super) async fn import_all(
        &self,
        tasks: Vec<Import>,
    ) -> Result<Vec<Imported>, BrokerError> {
        self.link().open_or_closed()?;
        let mut results = Vec::with_capacity(tasks.len());
        for chunk in tasks.chunks(CHUNK) {
            let imported = self.link().change(&mut Imports(chunk)).await?;
            results.extend(imported);
        }
        Ok(results)
    }

    pub(super) async fn absorb_totals(
        &self,
        queue: &Name,
        id: &Name,
        totals: Option<&Totals>,
    ) -> Result<bool, BrokerError> {
        let Some(totals) = totals else {
            let call = Call::new(ABSORBED, [text(queue), text(id)]);
            return Ok(self.link().call(&call).await?.is_empty());
        };
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let hours = || totals.hours.iter().filter(|hour| hour.ended() > 0);
        let archive = &totals.archive;
        let call = Call::new(
            ABSORB,
            [
                text(queue),
                text(id),
                long(number(totals.succeeded)),
                long(number(totals.failed)),
                long(number(totals.lost)),
                Value::Long(archive.max.map(number)),
                long(number(archive.trimmed_by_count)),
                long(number(archive.trimmed_by_age)),
                Value::Long(archive.last_trimmed.map(time)),
                crate::sql::values::ints(hours().map(|hour| {
                    usize::try_from(hour.start.as_millis() / HourStats::MILLIS).unwrap_or_default()
                })),
                longs(hours().map(|hour| number(hour.succeeded))),
                longs(hours().map(|hour| number(hour.failed))),
                longs(hours().map(|hour| number(hour.lost))),
            ],
        );
        let rows = self.link().call(&call).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }
}

struct Imports<'i>(&'i [Import]);

#[async_trait]
impl Make<Vec<Imported>> for Imports<'_> {
    async fn make(&mut self, change: &mut Change<'_>) -> Result<Vec<Imported>, Fault> {
        let tasks: Vec<_> = self.0.iter().map(Import::task_ref).collect();
        change.hold(&tasks).await?;
        let now = change
            .run(Call::new("select asynqueue.now_at($1)", [change.fixed()]))
            .await?;
        let now = timestamp(now.first().map_or(0, |row| row.get(0)));
        let mut results = Vec::with_capacity(self.0.len());
        for import in self.0 {
            results.push(change.import(import, now).await?);
        }
        Ok(results)
    }
}

impl Change<'_> {
    async fn import(&mut self, import: &Import, now: Timestamp) -> Result<Imported, Fault> {
        let task = &import.envelope;
        let (turn, queue) = match (self.whole(&import.task_ref()).await?, import.replaces) {
            (None, None) => match self.add(task).await? {
                Some(added) => added,
                None => return Ok(Imported::Exists),
            },
            (Some(_), None) => return Ok(Imported::Exists),
            (Some(found), Some(version)) if found.version() == version => {
                if matches!(found.state, TaskState::Active | TaskState::Completed) {
                    return Ok(Imported::Changed);
                }
                self.unlist(&found).await?;
                self.replace(&found, task).await?;
                (found.turn, found.queue)
            }
            _ => return Ok(Imported::Changed),
        };
        if let Some((key, until)) = import.lock(now) {
            let values = [
                Value::Int(queue),
                text(key.as_str()),
                Value::Bytes(Some(id_bytes(&task.id))),
                long(time(until)),
                long(time(now)),
            ];
            self.run(Call::new(
                "select asynqueue.take_lock($1, $2, $3, $4, $5)",
                values,
            ))
            .await?;
        }
        self.put_into(turn, queue, task, &import.place).await?;
        if import.replaces.is_some() {
            self.note_end(turn, task, &import.place).await?;
        }
        Ok(Imported::Done)
    }

    /// Adds the row of a task. `None` if its id was taken in between.
    async fn add(&self, task: &Envelope) -> Result<Option<(i64, i32)>, Fault> {
        let (key, holds) = lock_columns(task);
        let values = [
            text(&task.queue),
            Value::Bytes(Some(id_bytes(&task.id))),
            Value::Bytes(Some(task.to_bytes())),
            Value::Short(rank(task.options.priority)),
            key,
            holds,
        ];
        let rows = self
            .run(Call::new(
                "select * from asynqueue.add($1, $2, $3, $4, $5, $6)",
                values,
            ))
            .await?;
        Ok(rows.first().map(|row| (row.get(0), row.get(1))))
    }

    /// Puts a task that is in no list into its place.
    async fn put_into(
        &mut self,
        turn: i64,
        queue: i32,
        task: &Envelope,
        place: &TaskPlace,
    ) -> Result<(), Fault> {
        let at = match place {
            TaskPlace::Aggregating { since, .. } if task.aggregated_in().is_some() => {
                return self.put_into_group(turn, queue, task, place, *since).await;
            }
            TaskPlace::Pending { since } | TaskPlace::Aggregating { since, .. } => since,
            TaskPlace::Scheduled { due } | TaskPlace::Retry { due } => due,
            TaskPlace::Completed { until, .. } => until,
            TaskPlace::Archived { at } => at,
        };
        if let TaskPlace::Completed { result, .. } = place {
            let sql = "insert into asynqueue.change (turn, result) values ($1, $2) \
                 on conflict (turn) do update set result = excluded.result";
            let result = Value::Bytes(result.as_ref().map(|result| result.to_vec()));
            self.run(Call::new(sql, [long(turn), result])).await?;
        }
        let state = match place.state() {
            TaskState::Aggregating => TaskState::Pending,
            state => state,
        };
        self.put(turn, queue, &task.queue, state, Some(time(*at)), false)
            .await
    }

    async fn put_into_group(
        &mut self,
        turn: i64,
        queue: i32,
        task: &Envelope,
        place: &TaskPlace,
        since: Timestamp,
    ) -> Result<(), Fault> {
        let (Some(name), TaskPlace::Aggregating { apart, .. }, Some(limits)) =
            (task.aggregated_in(), place, task.options.aggregate.as_ref())
        else {
            return Ok(());
        };
        let part = apart.as_ref().map(|apart| &apart.part);
        let values = [
            long(turn),
            Value::Int(queue),
            Value::Bytes(Some(id_bytes(&task.id))),
            text(&task.event),
            text(name),
            Value::Bytes(Some(
                part.map_or_else(Vec::new, |part| id_bytes(&part.first)),
            )),
            int(part.map_or(0, |part| part.tries as usize)),
            Value::Long(apart.as_ref().map(|apart| duration(apart.delay))),
            long(time(since)),
            int(limits.max_size),
            long(duration(limits.max_delay)),
            long(duration(limits.grace)),
        ];
        let sql =
            "select asynqueue.put_into_group($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
        let rows = self.run(Call::new(sql, values)).await?;
        if let Some(due) = rows.first().and_then(|row| row.get::<_, Option<i64>>(0)) {
            let due = Signal::Due(task.queue.clone(), timestamp(due));
            self.events.push(Event::signal(&task.queue, due));
        }
        Ok(())
    }

    /// Releases the lock of a replaced task that has finished, and notifies its waiters.
    async fn note_end(
        &mut self,
        turn: i64,
        task: &Envelope,
        place: &TaskPlace,
    ) -> Result<(), Fault> {
        let end = match place {
            TaskPlace::Completed { result, .. } => Finished::Completed {
                result: result.clone(),
                codec: task.codec.clone(),
            },
            TaskPlace::Archived { .. } => archived(task),
            _ => return Ok(()),
        };
        self.end(turn, task, end).await
    }
}
