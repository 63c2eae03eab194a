//! Recording changes. The change comes first: if it cannot be recorded, it stands, and the log has it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use bytes::Bytes;

use super::{AuditEntry, entry::slot};
use crate::{
    ambient,
    broker::{BrokerError, Counts, Point, Series, SharedBroker},
    codec::{Codec, CodecError, MessagePack},
    inspector::{Actor, BulkProgress},
    task::{Name, Timestamp},
};

/// Records changes that were made now.
pub(crate) async fn record(
    broker: &SharedBroker,
    actor: Option<&Actor>,
    entries: impl IntoIterator<Item = AuditEntry>,
) {
    let now = broker.now();
    let entries = entries.into_iter().map(|entry| made(entry, actor, now));
    let entries: Vec<_> = entries.collect();
    if !broker.capabilities().points {
        entries.iter().for_each(log);
        return;
    }
    let (mut points, mut of) = (Vec::new(), Vec::new());
    for entry in &entries {
        match points_of(entry, &Counts::default()) {
            Ok(some) => {
                of.extend(some.iter().map(|_| entry));
                points.extend(some);
            }
            Err(error) => not_recorded(entry, &error),
        }
    }
    for (points, of) in points.chunks(CHUNK).zip(of.chunks(CHUNK)) {
        if let Err(error) = broker.add_points(points.to_vec()).await {
            let mut of = of.to_vec();
            of.dedup();
            of.into_iter().for_each(|entry| not_recorded(entry, &error));
        }
    }
}

/// An entry with a payload may have some kilobytes.
const CHUNK: usize = 100;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Gives an entry its id, its time and its actor.
fn made(mut entry: AuditEntry, actor: Option<&Actor>, now: Timestamp) -> AuditEntry {
    entry.at = now;
    entry.by = actor.cloned();
    if entry.id.is_empty() {
        // Entries of the same millisecond are in the order in which this program made them.
        let (number, random) = (NEXT.fetch_add(1, Relaxed), ambient::random::<u64>());
        entry.id = format!("{number:08x}{random:016x}").into();
    }
    entry.bounded()
}

/// The point of an entry, in the group of each place that it is about.
fn points_of(entry: &AuditEntry, counts: &Counts) -> Result<Vec<Point>, CodecError> {
    let note = Bytes::from(MessagePack::encode(entry)?);
    let mut groups = vec![entry.on.group()];
    groups.extend(entry.destination.clone());
    groups.extend(entry.enqueued.as_ref().map(|task| task.queue.clone()));
    groups.sort_unstable();
    groups.dedup();
    let point = |group: Name| Point {
        series: Series::Audit,
        at: Series::Audit.start_of(entry.at),
        group,
        key: entry.id.clone(),
        counts: counts.clone(),
        note: note.clone(),
    };
    Ok(groups.into_iter().map(point).collect())
}

/// For stores that keep no entries.
fn log(entry: &AuditEntry) {
    let text = entry.describe();
    let by = entry.by.as_ref().map(tracing::field::display);
    tracing::info!(target: "asynqueue::audit", by, entry = json(entry), did = text, "change");
}

fn not_recorded(entry: &AuditEntry, error: &(dyn std::error::Error + Send + Sync + 'static)) {
    let by = entry.by.as_ref().map(tracing::field::display);
    tracing::error!(target: "asynqueue::audit", by, entry = json(entry), did = entry.describe(), error,
        "the change was made, but could not be recorded");
}

fn json(entry: &AuditEntry) -> String {
    serde_json::to_string(entry).unwrap_or_else(|error| error.to_string())
}

/// The record of a bulk action. It is written before the first change, and its numbers are added after each chunk, so
/// that it is there even if the program ends in between.
#[derive(Debug)]
pub(crate) struct BulkRecord {
    entry: AuditEntry,
    added: BulkProgress,
    is_complete: bool,
}

impl BulkRecord {
    /// Records that the action starts.
    pub(crate) async fn start(
        broker: &SharedBroker,
        actor: Option<&Actor>,
        entry: AuditEntry,
    ) -> Self {
        let new = Self {
            entry: made(entry, actor, broker.now()),
            added: BulkProgress::default(),
            is_complete: false,
        };
        if broker.capabilities().points {
            if let Err(error) = new.write(broker, Counts::default()).await {
                not_recorded(&new.entry, &*error);
            }
        } else {
            log(&new.entry);
        }
        new
    }

    /// Adds what was done since the last call.
    pub(crate) async fn add(
        &mut self,
        broker: &SharedBroker,
        progress: BulkProgress,
        is_complete: bool,
    ) {
        let counts = Counts::from_iter([
            (slot::DONE, progress.done - self.added.done),
            (slot::REFUSED, progress.refused - self.added.refused),
            (slot::COMPLETE, (is_complete && !self.is_complete).into()),
        ]);
        if counts.iter().next().is_none() {
            return;
        }
        self.added = progress;
        self.is_complete |= is_complete;
        let so_far = || AuditEntry {
            done: progress.done,
            refused: progress.refused,
            ..self.entry.clone()
        };
        if !broker.capabilities().points {
            if is_complete {
                log(&so_far());
            }
        } else if let Err(error) = self.write(broker, counts).await {
            not_recorded(&so_far(), &*error);
        }
    }

    async fn write(
        &self,
        broker: &SharedBroker,
        counts: Counts,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let points = points_of(&self.entry, &counts)?;
        broker.add_points(points).await?;
        Ok(())
    }
}

/// Records that a version was deployed. The key is the same for all servers that start with it in an hour.
pub(super) async fn record_deploy(
    broker: &SharedBroker,
    server: &Name,
    version: &str,
) -> Result<(), BrokerError> {
    let on = super::AuditTarget::Program(version.into());
    let mut entry = AuditEntry::new(AuditEntry::DEPLOY, on);
    entry.id = format!("deploy\n{version}").into();
    let entry = made(entry, Some(&Actor::new(server.as_str())), broker.now());
    let points = points_of(&entry, &Counts::default());
    let points = points.map_err(|error| BrokerError::protocol(error.to_string()))?;
    broker.add_points(points).await
}
