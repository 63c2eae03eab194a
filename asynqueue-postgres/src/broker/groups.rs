//! Groups: finding those that are due, and replacing their members.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use asynqueue_core::{
    broker::{
        Aggregation, BrokerError, Conflict, DueGroups, Group, GroupInfo, NewTask, Part, SetApart,
    },
    task::{Envelope, Name, TaskRef},
};
use tokio_postgres::Row;

use super::{
    PostgresBroker,
    edit::task_in,
    enqueue::{Batch, Refused},
    lease::place_of,
    row::{Stored, Whole, part},
};
use crate::{
    link::{Change, Fault, Make},
    sql::{
        Call, Value,
        values::{duration, id_bytes, int, long, task_id, text, texts, timestamp},
    },
};

/// All groups of each queue that are due, and the first that is not.
const DUE: &str = "select u.ord::integer, g.id, g.due, g.event, g.name, g.first, g.tries, g.delay, g.due <= n.now \
     from (select asynqueue.now_at($3) as now) n, unnest($1) with ordinality u(name, ord) \
     join asynqueue.queue q on q.name = u.name cross join lateral ( \
     (select * from asynqueue.\"group\" d where d.queue = q.id and d.due <= asynqueue.now_at($3) and d.event = any($2) \
     order by d.due, d.event, d.name limit $4) union all \
     (select * from asynqueue.\"group\" d where d.queue = q.id and d.due > asynqueue.now_at($3) order by d.due limit 1)) g \
     order by u.ord, g.due, g.event, g.name";

/// The members of groups, oldest first, as many as the newest one permits.
const MEMBERS: &str = "select u.ord::integer, k.id, k.envelope, c.changes from unnest($1) with ordinality u(number, ord) \
     cross join lateral (select * from asynqueue.member m where m.\"group\" = u.number order by m.at, m.id limit ( \
     select case when g.delay is null then w.max_size else 2147483647 end from asynqueue.member w, asynqueue.\"group\" g \
     where w.\"group\" = u.number and g.id = u.number order by w.at desc, w.id desc limit 1)) m \
     join asynqueue.task k on k.turn = m.turn left join asynqueue.change c on c.turn = k.turn order by u.ord, m.at, m.id";

const INFO: &str = "select g.event, g.name, g.tries, g.size, g.oldest, g.due from asynqueue.queue q \
     join asynqueue.\"group\" g on g.queue = q.id where q.name = $1 order by g.due, g.event, g.name limit $2";

/// A group or a part, locked.
const FIND: &str = "select g.id from asynqueue.queue q join asynqueue.\"group\" g on g.queue = q.id \
     where q.name = $1 and g.event = $2 and g.name = $3 and g.first = $4 and g.tries = $5 for update of g";

const POSTPONE: &str = "update asynqueue.\"group\" g set due = asynqueue.now_at($7) + $6 from asynqueue.queue q \
     where g.queue = q.id and q.name = $1 and g.event = $2 and g.name = $3 and g.first = $4 and g.tries = $5";

/// The members of a group among these.
const WAITING: &str = "select k.id from asynqueue.member m join asynqueue.task k on k.turn = m.turn \
     where m.\"group\" = $1 and m.id = any($2) and k.id = any($2)";

impl PostgresBroker {
    pub(super) async fn find_due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        let values = [
            texts(queues),
            texts(events),
            self.link().fixed(),
            int(limit.saturating_add(1)),
        ];
        let rows = self.link().call(&Call::new(DUE, values)).await?;
        let (mut groups, mut numbers, mut next_due) = (Vec::new(), Vec::new(), None);
        for row in &rows {
            let due = timestamp(row.get(2));
            if !row.get::<_, bool>(8) || groups.len() >= limit {
                next_due = Some(next_due.map_or(due, |next| due.min(next)));
                continue;
            }
            let Some(queue) = queues.get(place_of(row)?) else {
                continue;
            };
            numbers.push(Some(row.get::<_, i32>(1)));
            groups.push(Group {
                queue: queue.clone(),
                event: Name::from(row.get::<_, String>(3)),
                name: Name::from(row.get::<_, String>(4)),
                part: part(row.get(5), row.get(6))?,
                members: Vec::new(),
            });
        }
        if !groups.is_empty() {
            self.read_members(&mut groups, numbers).await?;
        }
        // Its members may have left in between.
        groups.retain(|group| !group.members.is_empty());
        Ok(DueGroups { groups, next_due })
    }

    async fn read_members(
        &self,
        groups: &mut [Group],
        numbers: Vec<Option<i32>>,
    ) -> Result<(), BrokerError> {
        let call = Call::new(MEMBERS, [Value::Ints(Some(numbers))]);
        for row in &self.link().call(&call).await? {
            let Some(group) = groups.get_mut(place_of(row)?) else {
                continue;
            };
            let stored = Stored {
                id: task_id(row.get(1))?,
                envelope: row.get(2),
                changes: row.get(3),
            };
            let member = stored.read(&group.queue).either();
            group.members.push(member);
        }
        Ok(())
    }

    pub(super) async fn groups_of(
        &self,
        queue: &Name,
        limit: usize,
    ) -> Result<Vec<GroupInfo>, BrokerError> {
        let call = Call::new(INFO, [text(queue), int(limit)]);
        let rows = self.link().call(&call).await?;
        let info = |row: &Row| {
            let (event, name) = (
                Name::from(row.get::<_, String>(0)),
                Name::from(row.get::<_, String>(1)),
            );
            let size = u64::try_from(row.get::<_, i32>(3)).unwrap_or_default();
            let (oldest, due) = (timestamp(row.get(4)), timestamp(row.get(5)));
            let mut info = GroupInfo::new(queue.clone(), event, name, size, oldest, due);
            info.tries = u32::try_from(row.get::<_, i32>(2)).unwrap_or_default();
            info
        };
        Ok(rows.iter().map(info).collect())
    }

    pub(super) async fn aggregate_members(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        self.link().change(&mut Aggregate(aggregation)).await
    }

    pub(super) async fn set_members_apart(&self, members: SetApart) -> Result<usize, BrokerError> {
        self.link().change(&mut Apart(members)).await
    }

    pub(super) async fn postpone_group(
        &self,
        group: &Group,
        delay: Duration,
    ) -> Result<(), BrokerError> {
        let mut values = key(group, group.part.as_ref());
        values.extend([long(duration(delay)), self.link().fixed()]);
        self.link()
            .call(&Call::new(POSTPONE, values))
            .await
            .map(drop)
    }
}

/// The queue, event, name and part of a group.
fn key(group: &Group, part: Option<&Part>) -> Vec<Value> {
    let first = part.map_or_else(Vec::new, |part| id_bytes(&part.first));
    let tries = part.map_or(0, |part| i32::try_from(part.tries).unwrap_or(i32::MAX));
    vec![
        text(&group.queue),
        text(&group.event),
        text(&group.name),
        Value::Bytes(Some(first)),
        Value::Int(tries),
    ]
}

impl Change<'_> {
    /// The number of a group, which is locked until this transaction ends.
    async fn find_group(&self, group: &Group) -> Result<Option<i32>, Fault> {
        let rows = self
            .run(Call::new(FIND, key(group, group.part.as_ref())))
            .await?;
        Ok(rows.first().map(|row| row.get(0)))
    }

    /// Which of these tasks wait in a group.
    async fn waiting_in(
        &self,
        number: i32,
        members: &[Arc<Envelope>],
    ) -> Result<Vec<Vec<u8>>, Fault> {
        let ids = members.iter().map(|member| id_bytes(&member.id));
        let values = [Value::Int(number), crate::sql::values::blobs(ids)];
        let rows = self.run(Call::new(WAITING, values)).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    async fn refresh_group(&self, number: i32) -> Result<(), Fault> {
        self.run(Call::new(
            "select asynqueue.refresh_group($1)",
            [Value::Int(number)],
        ))
        .await?;
        Ok(())
    }

    /// Accepts one task.
    async fn enqueue(&mut self, task: NewTask) -> Result<Result<(), Conflict>, Fault> {
        let batch = Batch::new(vec![task]);
        let rows = self.run(batch.call(self.fixed()).in_transaction()).await?;
        let (mut results, events) = batch.results(rows.iter().map(Refused::of))?;
        self.events.extend(events);
        Ok(results.pop().unwrap_or(Ok(())))
    }
}

struct Aggregate(Aggregation);

#[async_trait]
impl Make<Result<bool, Conflict>> for Aggregate {
    async fn make(&mut self, change: &mut Change<'_>) -> Result<Result<bool, Conflict>, Fault> {
        let Aggregation { group, task, .. } = &self.0;
        let Some(number) = change.find_group(group).await? else {
            return Ok(Ok(false));
        };
        let waiting = change.waiting_in(number, &group.members).await?;
        if group.members.is_empty() || waiting.len() != group.members.len() {
            return Ok(Ok(false));
        }
        if let Err(conflict) = change.enqueue(task.clone()).await? {
            return Ok(Err(conflict));
        }
        let members = members_of(group);
        for (found, member) in change.wholes(&members).await?.iter().zip(&members) {
            if let Some(found) = found {
                change.remove(found, member).await?;
            }
        }
        Ok(Ok(true))
    }
}

struct Apart(SetApart);

#[async_trait]
impl Make<usize> for Apart {
    async fn make(&mut self, change: &mut Change<'_>) -> Result<usize, Fault> {
        let (group, Some(part)) = (&self.0.group, self.0.part()) else {
            return Ok(0);
        };
        let Some(from) = change.find_group(group).await? else {
            return Ok(0);
        };
        let delay = duration(self.0.delay);
        let mut values = key(group, Some(&part));
        values.extend([long(delay), change.fixed()]);
        let sql = "select asynqueue.group_of(q.id, $2, $3, $4, $5, $6, t), t from asynqueue.queue q, asynqueue.now_at($7) t \
             where q.name = $1";
        let rows = change.run(Call::new(sql, values)).await?;
        let Some((to, now)) = rows
            .first()
            .map(|row| (row.get::<_, i32>(0), row.get::<_, i64>(1)))
        else {
            return Ok(0);
        };
        let waiting = change.waiting_in(from, &group.members).await?;
        let mut moved = 0;
        let found = change.wholes(&members_of(group)).await?;
        let members = group.members.iter().zip(&self.0.members);
        for (found, (seen, new)) in found.into_iter().zip(members) {
            let is_in = waiting.contains(&id_bytes(&seen.id));
            let Some(found) = found.filter(|_| is_in) else {
                continue;
            };
            let turn = found.turn;
            if !is_as_seen(&found, group, seen) {
                continue;
            }
            change.replace(&found, new).await?;
            // In the order in which they were added.
            let sql = "update asynqueue.member set \"group\" = $2, at = $3 where turn = $1";
            let values = [long(turn), Value::Int(to), long(now + moved)];
            change.run(Call::new(sql, values)).await?;
            moved += 1;
        }
        change.refresh_group(from).await?;
        change.refresh_group(to).await?;
        Ok(usize::try_from(moved).unwrap_or_default())
    }
}

fn members_of(group: &Group) -> Vec<TaskRef> {
    let members = group.members.iter();
    members
        .map(|member| task_in(&group.queue, &member.id))
        .collect()
}

/// Whether a member has not changed since it was read.
fn is_as_seen(found: &Whole, group: &Group, seen: &Arc<Envelope>) -> bool {
    let stored = Stored {
        id: found.stored.id.clone(),
        envelope: found.stored.envelope.clone(),
        changes: found.stored.changes.clone(),
    };
    stored.read(&group.queue).either() == *seen
}
