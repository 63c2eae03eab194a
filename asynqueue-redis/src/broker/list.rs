//! Lists of tasks, a page at a time.

use asynqueue_core::{
    broker::{BrokerError, Cursor, Page, TaskInfo, TaskPage},
    task::{Name, TaskId, TaskState},
};
use redis::Value;

use super::{MAX_CHUNK, RedisBroker, lease::parts, queue::Queue};
use crate::{reply, script};

impl RedisBroker {
    /// Returns a page of the tasks of a queue in one state.
    pub(super) async fn list_page(
        &self,
        queue: &Name,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        let queue = self.queue(queue);
        let mut found = TaskPage::new(Vec::new(), page.after.clone());
        loop {
            let mut part = page.clone().after(found.next.take());
            part.limit = (page.limit - found.tasks.len()).min(MAX_CHUNK);
            let part = match state {
                TaskState::Pending if part.reversed => self.list_last_pending(&queue, part).await?,
                TaskState::Pending => self.list_pending(&queue, part).await?,
                TaskState::Aggregating => self.list_grouped(&queue, part).await?,
                _ => self.list_by_time(&queue, state, part).await?,
            };
            found.tasks.extend(part.tasks);
            found.next = part.next;
            if found.next.is_none() || found.tasks.len() >= page.limit {
                return Ok(found);
            }
        }
    }

    async fn list_pending(&self, queue: &Queue, page: Page) -> Result<TaskPage, BrokerError> {
        let place = page.after.and_then(|cursor| cursor.0.parse::<u64>().ok());
        let args = script::list_pending::Args {
            place: place.unwrap_or(0),
            limit: page.limit,
        };
        let call = script::list_pending::call(&queue.keys, args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let next = reply::text(reply::next(&mut answer)?)?;
        let ids = task_ids(reply::next(&mut answer)?)?;
        Ok(TaskPage::new(
            self.look_in(queue, &ids, TaskState::Pending).await?,
            (!next.is_empty()).then_some(Cursor(next)),
        ))
    }

    /// The cursor also has the last task of the page, because tasks that become pending change all positions.
    async fn list_last_pending(&self, queue: &Queue, page: Page) -> Result<TaskPage, BrokerError> {
        let after = page.after.as_ref().and_then(|cursor| {
            let (place, after) = cursor.0.split_once(':')?;
            Some((place.parse::<u64>().ok()?, after))
        });
        let (place, after) = after.unwrap_or((0, ""));
        let limit = page.limit;
        let args = script::list_last_pending::Args {
            place,
            after,
            limit,
        };
        let call = script::list_last_pending::call(&queue.keys, args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let next = reply::text(reply::next(&mut answer)?)?;
        let last = reply::text(reply::next(&mut answer)?)?;
        let ids = task_ids(reply::next(&mut answer)?)?;
        Ok(TaskPage::new(
            self.look_in(queue, &ids, TaskState::Pending).await?,
            (!next.is_empty()).then(|| Cursor(format!("{next}:{last}"))),
        ))
    }

    async fn list_grouped(&self, queue: &Queue, page: Page) -> Result<TaskPage, BrokerError> {
        let Page {
            after,
            limit,
            reversed,
            ..
        } = page;
        let args = script::list_grouped::Args {
            direction: direction(reversed),
            // One more than requested shows whether this is the last page.
            limit: limit + 1,
            after: after.map_or_else(String::new, |cursor| cursor.0),
        };
        let call = script::list_grouped::call(&queue.keys, args);
        let members = reply::array(call.send(self.link()).await?)?.into_iter();
        let mut members = members
            .map(reply::text)
            .collect::<Result<Vec<_>, BrokerError>>()?;
        let has_more = members.len() > limit;
        members.truncate(limit);
        let ids = members
            .iter()
            .filter_map(|member| member.rsplit('\n').next());
        let ids = ids.map(|id| task_id(Value::BulkString(id.into())));
        let ids = ids.collect::<Result<Vec<_>, _>>()?;
        Ok(TaskPage::new(
            self.look_in(queue, &ids, TaskState::Aggregating).await?,
            members.pop().filter(|_| has_more).map(Cursor),
        ))
    }

    async fn list_by_time(
        &self,
        queue: &Queue,
        state: TaskState,
        page: Page,
    ) -> Result<TaskPage, BrokerError> {
        let Page { after, limit, .. } = page;
        let keys = &queue.keys;
        let (list, reversed) = match state {
            TaskState::Scheduled => (&keys.scheduled, page.reversed),
            TaskState::Retry => (&keys.retry, page.reversed),
            TaskState::Active => (&keys.active, page.reversed),
            TaskState::Completed => (&keys.completed, !page.reversed),
            TaskState::Archived => (&keys.archived, !page.reversed),
            // Pending and aggregating tasks are listed above. Unknown states of later versions have no list.
            _ => return Ok(TaskPage::default()),
        };
        let args = script::list::Args {
            direction: direction(reversed),
            // One more than requested shows whether this is the last page.
            limit: limit + 1,
        };
        let mut call = script::list::call(script::list::Keys { list }, args);
        let place = after.as_ref().and_then(|cursor| cursor.0.split_once(':'));
        // As in every list, an invalid cursor starts from the beginning.
        if let Some((time, member)) = place.filter(|(time, _)| time.parse::<u64>().is_ok()) {
            call.row(script::list::Place { time, member });
        }
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let (mut ids, mut last) = (Vec::new(), None);
        while let Some(member) = answer.next() {
            if ids.len() == limit {
                break;
            }
            let (member, time) = (
                reply::text(member)?,
                reply::text(reply::next(&mut answer)?)?,
            );
            last = Some(Cursor(format!("{time}:{member}")));
            let id = if state == TaskState::Active {
                parts(&member)?.1
            } else {
                &member
            };
            ids.push(task_id(Value::BulkString(id.into()))?);
        }
        let has_more = answer.next().is_some();
        Ok(TaskPage::new(
            self.look_in(queue, &ids, state).await?,
            last.filter(|_| has_more),
        ))
    }

    /// Looks up tasks that were in a state a moment ago, and leaves out those in another state.
    async fn look_in(
        &self,
        queue: &Queue,
        ids: &[TaskId],
        state: TaskState,
    ) -> Result<Vec<TaskInfo>, BrokerError> {
        let found = self.look(queue, ids).await?.into_iter().flatten();
        Ok(found
            .filter(|found| found.state == state)
            .map(TaskInfo::from)
            .collect())
    }
}

fn direction(reversed: bool) -> &'static str {
    if reversed { "down" } else { "up" }
}

fn task_ids(values: Value) -> Result<Vec<TaskId>, BrokerError> {
    reply::array(values)?.into_iter().map(task_id).collect()
}

fn task_id(value: Value) -> Result<TaskId, BrokerError> {
    TaskId::new(reply::text(value)?)
        .map_err(|error| BrokerError::protocol(error.to_string()).caused_by(error))
}
