//! Groups of tasks that are aggregated into one task.

use std::{sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Aggregation, Apart, BrokerError, Conflict, DueGroups, Group, GroupInfo, Part, SetApart,
    },
    codec::CodecName,
    task::{Aggregate, Envelope, Name, TaskId, TaskState, Timestamp, UniqueUntil},
};

use super::{
    MAX_CHUNK, MAX_CHUNK_BYTES, RedisBroker,
    enqueue::{Refusal, Special},
    millis,
    queue::{Queue, Read},
};
use crate::{reply, script};

/// The key of a group in Redis: its event, a line break and its name.
fn group_key(event: &Name, name: &Name) -> String {
    format!("{event}\n{name}")
}

/// The key of a group or a part of it. A part adds its first member and the number of tries, separated by a character
/// that no name contains.
fn key_of(event: &Name, name: &Name, part: Option<&Part>) -> String {
    let key = group_key(event, name);
    match part {
        None => key,
        Some(part) => format!("{key}\u{1}{}\u{1}{}", part.first, part.tries),
    }
}

/// Parses a key into event, name and part.
fn read_key(key: &str) -> (Name, Name, Option<Part>) {
    let (event, group) = key.split_once('\n').unwrap_or((key, ""));
    let part = || {
        let (rest, tries) = group.rsplit_once('\u{1}')?;
        let (name, first) = rest.rsplit_once('\u{1}')?;
        let (first, tries) = (TaskId::new(first).ok()?, tries.parse().ok()?);
        Some((name, Part { first, tries }))
    };
    match part() {
        Some((name, part)) => (event.into(), name.into(), Some(part)),
        None => (event.into(), group.into(), None),
    }
}

/// Reads the limits and the member of a task that waits in a group: since when it waits, and the part that it is in.
pub(super) fn read_member(kept: &str, id: &TaskId) -> Option<(Timestamp, Option<Apart>)> {
    let mut parts = kept.splitn(4, ',');
    let delay = Duration::from_millis(parts.next()?.parse().ok()?);
    let member = parts.nth(2)?.strip_suffix(id.as_str())?;
    let (key, since) = member.strip_suffix('\n')?.rsplit_once('\n')?;
    let since = Timestamp::from_millis(since.parse().ok()?);
    let (_, _, part) = read_key(key);
    Some((since, part.map(|part| Apart { part, delay })))
}

/// The group and limits of a part, as arguments of scripts. The complete part is due together after the delay, as if
/// each member had these limits.
fn part_spec(delay: Duration, key: &str) -> String {
    let delay = millis(delay);
    format!("{delay},{delay},{},{key}", Aggregate::MAX_SIZE + 1)
}

/// The group of a task and its limits, or its part of the group, as arguments of scripts.
pub(super) fn member_spec(task: &Envelope, apart: Option<&Apart>) -> Option<String> {
    let Some(apart) = apart else {
        return group_spec(task);
    };
    let key = key_of(&task.event, task.aggregated_in()?, Some(&apart.part));
    Some(part_spec(apart.delay, &key))
}

/// The group of a task and its limits, as arguments of scripts.
pub(super) fn group_spec(task: &Envelope) -> Option<String> {
    let (limits, name) = (task.options.aggregate?, task.aggregated_in()?);
    Some(format!(
        "{},{},{},{}",
        millis(limits.grace),
        millis(limits.max_delay),
        limits.max_size,
        group_key(&task.event, name)
    ))
}

impl RedisBroker {
    /// Returns due groups.
    pub(super) async fn find_due_groups(
        &self,
        queues: &[Name],
        events: &[Name],
        limit: usize,
    ) -> Result<DueGroups, BrokerError> {
        let mut found = DueGroups::default();
        for name in queues {
            let left = limit.saturating_sub(found.groups.len());
            self.due_in(&self.queue(name), events, left, &mut found)
                .await?;
        }
        Ok(found)
    }

    /// Returns the groups of a queue.
    pub(super) async fn groups_of(
        &self,
        queue: &Name,
        limit: usize,
    ) -> Result<Vec<GroupInfo>, BrokerError> {
        let name = queue;
        let queue = self.queue(name);
        let call = script::look_groups::call(&queue.keys, script::look_groups::Args { limit });
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let mut groups = Vec::new();
        while let Some(key) = answer.next() {
            let key = reply::text(key)?;
            let (event, group, part) = read_key(&key);
            let due = reply::time(&reply::text(reply::next(&mut answer)?)?)?;
            let size = reply::number(reply::next(&mut answer)?)?;
            let oldest = reply::time(&reply::text(reply::next(&mut answer)?)?)?;
            let mut info = GroupInfo::new(name.clone(), event, group, size, oldest, due);
            info.tries = part.map_or(0, |part| part.tries);
            groups.push(info);
        }
        Ok(groups)
    }

    /// Replaces members of a group with one task.
    pub(super) async fn aggregate_members(
        &self,
        aggregation: Aggregation,
    ) -> Result<Result<bool, Conflict>, BrokerError> {
        let Aggregation { group, task } = aggregation;
        if group.members.is_empty() {
            return Ok(Ok(false));
        }
        let queue = self.queue(&group.queue);
        let lane = queue.changes.next();
        let special = Special::of(&task).unwrap_or_default();
        let args = script::aggregate::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            publish: self.link().publish_command(),
            group: key_of(&group.event, &group.name, group.part.as_ref()),
            id: task.envelope.id.as_str(),
            envelope: task.envelope.to_bytes(),
            how: special.how,
            time: special.time,
            priority: special.priority,
            lock: special.lock,
            ttl: special.ttl,
            window: special.window,
        };
        let mut call = script::aggregate::call(&queue.keys, args);
        for member in &group.members {
            let lock = member.unique.as_ref();
            let lock = lock.filter(|lock| lock.until != UniqueUntil::Window);
            call.row(script::aggregate::Member {
                member: member.id.as_str(),
                held: lock.map_or("", |lock| lock.key.as_str()),
            });
        }
        let answer = reply::text(call.send_durably(self.link(), self.0.durability).await?)?;
        lane.answered();
        match answer.as_str() {
            "y" => Ok(Ok(true)),
            "n" => Ok(Ok(false)),
            refused => {
                let holder = refused.strip_prefix("lock ");
                let holder = holder.map_or(Ok(task.envelope.id.clone()), TaskId::new);
                let holder = holder
                    .map_err(|error| BrokerError::protocol(error.to_string()).caused_by(error))?;
                let found = self.look(&queue, std::slice::from_ref(&holder)).await?;
                // It existed a moment ago, so it is done.
                let state = found.into_iter().next().flatten();
                let state = state.map_or(TaskState::Completed, |found| found.state);
                let refusal = match refused {
                    "id" => Refusal::Id(state),
                    _ => Refusal::Lock(holder, state),
                };
                Ok(Err(refusal.conflict(&task.envelope)))
            }
        }
    }

    /// Moves members of a group into a separate part.
    pub(super) async fn set_members_apart(&self, apart: SetApart) -> Result<usize, BrokerError> {
        let Some(part) = apart.part() else {
            return Ok(0);
        };
        let (from, to) = (
            key_of(
                &apart.group.event,
                &apart.group.name,
                apart.group.part.as_ref(),
            ),
            key_of(&apart.group.event, &apart.group.name, Some(&part)),
        );
        let spec = part_spec(apart.delay, &to);
        let queue = self.queue(&apart.group.queue);
        let members: Vec<_> = apart.group.members.iter().zip(&apart.members).collect();
        let (mut moved, mut first) = (0, 0);
        while first < members.len() {
            let mut bytes = 0;
            let fits = |(seen, _): &&(&Arc<Envelope>, _)| {
                bytes += seen.payload.len();
                bytes <= MAX_CHUNK_BYTES
            };
            let left = &members[first..];
            let count = left.iter().take(MAX_CHUNK).take_while(fits).count().max(1);
            moved += self
                .set_apart_chunk(&queue, &left[..count], &from, &spec, first)
                .await?;
            first += count;
        }
        Ok(moved)
    }

    /// Postpones a group.
    pub(super) async fn postpone_group(
        &self,
        group: &Group,
        delay: Duration,
    ) -> Result<(), BrokerError> {
        let queue = self.queue(&group.queue);
        let args = script::postpone::Args {
            not_after: self.script_clock(),
            group: key_of(&group.event, &group.name, group.part.as_ref()),
            millis: millis(delay),
        };
        let call = script::postpone::call(&queue.keys, args);
        call.send(self.link()).await.map(drop)
    }

    /// Sets members apart, each with the bytes that were read and the new ones.
    async fn set_apart_chunk(
        &self,
        queue: &Queue,
        members: &[(&Arc<Envelope>, &Arc<Envelope>)],
        from: &str,
        spec: &str,
        offset: usize,
    ) -> Result<usize, BrokerError> {
        let lane = queue.changes.next();
        let args = script::set_apart::Args {
            not_after: self.script_clock(),
            lane: lane.name(),
            number: lane.number(),
            from,
            spec,
            offset,
        };
        let mut call = script::set_apart::call(&queue.keys, args);
        let ids: Vec<_> = members.iter().map(|(seen, _)| seen.id.clone()).collect();
        let mut is_any = false;
        for ((seen, new), found) in members.iter().zip(self.look(queue, &ids).await?) {
            let as_seen = found.filter(|found| found.envelope == **seen);
            if let Some(found) = as_seen {
                is_any = true;
                let is_whole = new.codec != CodecName::unreadable();
                // A substitute for unreadable bytes must not replace them: another version may be able to read them.
                let bytes = if is_whole { new.to_bytes() } else { Vec::new() };
                call.row(script::set_apart::Member {
                    id: seen.id.as_str(),
                    seen: found.bytes,
                    new: bytes,
                });
            }
        }
        if !is_any {
            return Ok(0);
        }
        let moved = reply::number(call.send(self.link()).await?)?;
        lane.answered();
        Ok(moved as usize)
    }

    async fn due_in(
        &self,
        queue: &Queue,
        events: &[Name],
        limit: usize,
        found: &mut DueGroups,
    ) -> Result<(), BrokerError> {
        let args = script::due_groups::Args {
            not_after: self.script_clock(),
            limit,
            bytes: self.0.answer_bytes,
        };
        let mut call = script::due_groups::call(&queue.keys, args);
        for event in events {
            let event = event.as_str();
            call.row(script::due_groups::Event { event });
        }
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let next_due = reply::some_time(reply::next(&mut answer)?)?;
        found.next_due = [found.next_due, next_due].into_iter().flatten().min();
        while let Some(key) = answer.next() {
            let key = reply::text(key)?;
            let ids = reply::array(reply::next(&mut answer)?)?;
            let bodies = reply::array(reply::next(&mut answer)?)?;
            let (event, name, part) = read_key(&key);
            let mut members = Vec::with_capacity(ids.len());
            for (id, body) in ids.into_iter().zip(bodies) {
                match queue.envelope(&reply::text(id)?, reply::bytes(body)?)? {
                    Read::Whole(envelope) => members.push(envelope),
                    // The substitute is marked as unreadable, and the server that aggregates sets it apart.
                    Read::Unreadable(envelope) => members.push(envelope),
                }
            }
            found.groups.push(Group {
                queue: queue.name.clone(),
                event,
                name,
                part,
                members,
            });
        }
        Ok(())
    }
}
