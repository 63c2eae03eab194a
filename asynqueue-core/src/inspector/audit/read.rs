//! Reading what was changed, newest first.

use std::{collections::HashSet, time::Duration};

use super::{AuditCursor, AuditEntry, AuditTarget, entry::PROGRAM};
use crate::{
    broker::{BrokerError, Point, PointQuery, Series, SharedBroker},
    codec::{Codec, MessagePack},
    inspector::Inspector,
    task::{Name, TaskRef, Timestamp},
};

/// Which changes to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct AuditQuery {
    /// The earliest time. Default: 90 days ago, which is how long entries are kept.
    pub from: Timestamp,
    /// Changes before this time. Default: all until now.
    pub until: Timestamp,
    /// Only changes of this queue, schedule entry, server or outbox, and of tasks in this queue.
    pub on: Option<AuditTarget>,
    /// Only changes that [concern](AuditEntry::concerns) this task.
    pub task: Option<TaskRef>,
    /// Only changes by an actor of this name, ignoring the case of ASCII letters.
    pub actor: Option<String>,
    /// Only changes before this place, which is where the previous page ended.
    pub after: Option<AuditCursor>,
    /// The most entries. Default: 100.
    pub limit: usize,
}

impl Default for AuditQuery {
    fn default() -> Self {
        Self {
            from: Timestamp::default(),
            until: Timestamp::MAX,
            on: None,
            task: None,
            actor: None,
            after: None,
            limit: 100,
        }
    }
}

impl AuditQuery {
    /// The last 100 changes of a queue and its tasks.
    pub fn of_queue(queue: impl Into<Name>) -> Self {
        Self {
            on: Some(AuditTarget::Queue(queue.into())),
            ..Self::default()
        }
    }

    /// The last 100 changes of a task. Bulk actions list no tasks, so they are not included.
    pub fn of_task(task: TaskRef) -> Self {
        Self {
            task: Some(task),
            ..Self::default()
        }
    }

    fn includes(&self, entry: &AuditEntry) -> bool {
        let is_of = |actor: &String| {
            let by = entry.by.as_ref();
            by.is_some_and(|by| by.name.eq_ignore_ascii_case(actor))
        };
        entry.at >= self.from
            && entry.at < self.until
            && self.on.as_ref().is_none_or(|on| is_about(entry, on))
            && self.task.as_ref().is_none_or(|task| entry.concerns(task))
            && self.actor.as_ref().is_none_or(is_of)
            && (self.after.as_ref()).is_none_or(|after| entry.cursor() < *after)
    }

    /// The group that has all of the entries.
    fn group(&self) -> Option<Name> {
        let queue = self.task.as_ref().map(|task| task.queue.clone());
        queue.or_else(|| self.on.as_ref().map(AuditTarget::group))
    }

    /// The time that no entry is later than.
    fn end(&self) -> Timestamp {
        let after = self.after.as_ref().map(|after| after.at + MILLI);
        self.until.min(after.unwrap_or(Timestamp::MAX))
    }
}

const MILLI: Duration = Duration::from_millis(1);

/// Whether a change is about a queue or another place: made to it, or to it as the destination of tasks.
fn is_about(entry: &AuditEntry, place: &AuditTarget) -> bool {
    let AuditTarget::Queue(queue) = place else {
        return entry.on == *place;
    };
    entry.on == *place
        || entry.destination.as_ref() == Some(queue)
        || entry
            .enqueued
            .as_ref()
            .is_some_and(|task| task.queue == *queue)
}

/// Changes, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct AuditPage {
    /// The changes.
    pub entries: Vec<AuditEntry>,
    /// Where the next page starts. `None` if there are no further entries.
    pub next: Option<AuditCursor>,
}

impl Inspector {
    /// Who changed what, newest first. Every change by an inspector or a
    /// [timetable](crate::scheduler::Timetable) is recorded and kept for 90 days, and so is the first server that starts
    /// with another version. Stores without the capability [`points`](crate::broker::Capabilities::points) keep nothing;
    /// changes are only logged there.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use asynqueue_core::{inspector::{AuditQuery, Inspector}, memory::MemoryBroker};
    ///
    /// let inspector = Inspector::new(MemoryBroker::new()).acting_as("ada");
    /// inspector.pause_because(&["mail".into()], "the relay is down").await?;
    /// let changes = inspector.audit(&AuditQuery::of_queue("mail")).await?;
    /// assert_eq!(changes.entries[0].describe(), "paused queue mail: the relay is down");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, BrokerError> {
        let mut back = Back::new(&self.broker, query.from, query.end(), query.group());
        let mut entries: Vec<AuditEntry> = Vec::new();
        while entries.len() <= query.limit
            && let Some(found) = back.next().await?
        {
            entries.extend(found.into_iter().filter(|entry| query.includes(entry)));
        }
        let has_more = entries.len() > query.limit;
        entries.truncate(query.limit);
        // The program that made a change may have hidden fewer fields.
        for edit in entries.iter_mut().filter_map(|entry| entry.edit.as_mut()) {
            edit.hide(&self.viewer);
        }
        let last = entries.last().filter(|_| has_more);
        Ok(AuditPage {
            next: last.map(AuditEntry::cursor),
            entries,
        })
    }

    /// When which [version](crate::server::ServerBuilder::version) of the program was deployed since a time, oldest
    /// first. A server records its version when it starts, unless that version was deployed last or another server runs
    /// it.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn deploys(&self, since: Timestamp) -> Result<Vec<(Timestamp, String)>, BrokerError> {
        let query = PointQuery {
            group: Some(PROGRAM),
            ..PointQuery::since(Series::Audit, since)
        };
        let mut entries = entries(self.broker.points(&query).await?);
        entries.reverse();
        let deploys = entries.into_iter().filter(|entry| entry.at >= since);
        let deploys = deploys.filter_map(deployed);
        let mut deploys: Vec<_> = deploys.collect();
        deploys.dedup_by(|(_, later), (_, version)| later == version);
        Ok(deploys)
    }
}

fn deployed(entry: AuditEntry) -> Option<(Timestamp, String)> {
    let AuditTarget::Program(version) = &entry.on else {
        return None;
    };
    let is_deploy = entry.action == AuditEntry::DEPLOY;
    is_deploy.then(|| (entry.at, version.to_string()))
}

/// The version that was deployed last.
pub(super) async fn last_deploy(broker: &SharedBroker) -> Result<Option<String>, BrokerError> {
    let mut back = Back::new(broker, Timestamp::default(), Timestamp::MAX, Some(PROGRAM));
    while let Some(found) = back.next().await? {
        if let Some((_, version)) = found.into_iter().find_map(deployed) {
            return Ok(Some(version));
        }
    }
    Ok(None)
}

/// Reads entries back in time, so that many of them are not read together.
struct Back<'b> {
    broker: &'b SharedBroker,
    group: Option<Name>,
    from: Timestamp,
    until: Timestamp,
    /// How much is read next.
    span: Duration,
}

impl<'b> Back<'b> {
    const HOUR: Duration = Duration::from_secs(3_600);
    const WEEK: Duration = Duration::from_secs(7 * 24 * 3_600);
    /// The span grows after fewer entries than this.
    const FEW: usize = 200;

    fn new(
        broker: &'b SharedBroker,
        from: Timestamp,
        until: Timestamp,
        group: Option<Name>,
    ) -> Self {
        let series = Series::Audit;
        let now = broker.now();
        // Clocks of other programs may be ahead.
        let last = series.start_of(until.min(now + 2 * Self::HOUR));
        Self {
            broker,
            group,
            from: series.start_of(from.max(series.kept_since(now))),
            until: last + series.span(),
            span: 3 * Self::HOUR,
        }
    }

    /// The entries of the next span, newest first. `None` if there are no further spans.
    async fn next(&mut self) -> Result<Option<Vec<AuditEntry>>, BrokerError> {
        if !self.broker.capabilities().points || self.until <= self.from {
            return Ok(None);
        }
        let from = (self.until - self.span).max(self.from);
        let query = PointQuery {
            series: Series::Audit,
            from,
            until: self.until,
            group: self.group.clone(),
            key: None,
        };
        let points = self.broker.points(&query).await?;
        self.until = from;
        self.span = match points.len() < Self::FEW {
            true => (self.span * 2).min(Self::WEEK),
            false => Self::HOUR,
        };
        Ok(Some(entries(points)))
    }
}

/// Newest first. An entry in several groups is returned once. Entries that this version cannot decode are left out.
fn entries(points: Vec<Point>) -> Vec<AuditEntry> {
    let mut seen = HashSet::new();
    let mut entries: Vec<_> = points
        .into_iter()
        .filter(|point| point.key != Point::REST && seen.insert((point.at, point.key.clone())))
        .filter_map(entry)
        .collect();
    entries.sort_unstable_by_key(|entry| std::cmp::Reverse(entry.cursor()));
    entries
}

fn entry(point: Point) -> Option<AuditEntry> {
    let decoded = MessagePack::decode::<AuditEntry>(&point.note);
    let decoded = decoded.inspect_err(|error| {
        tracing::debug!(id = %point.key, %error, "an audit entry is undecodable and is left out");
    });
    let mut entry = decoded.ok()?;
    entry.id = point.key;
    entry.add(&point.counts);
    Some(entry)
}
