//! The schedule entries, page by page.

use asynqueue_core::{
    broker::{BrokerError, ScheduleEntry, ScheduleEvent},
    inspector::Inspector,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::AT_A_TIME;
use crate::web::version::version_of_schedules;

/// The number of recent ticks that are read per entry.
const EVENTS: usize = 5;

/// The entries on a page.
pub(in crate::web) const PAGE: usize = 100;

/// The part of the schedule to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::web) struct Part {
    /// Selects entries whose name contains this.
    pub(in crate::web) name: String,
    /// How many of these entries to skip.
    pub(in crate::web) after: usize,
}

/// A page of entries with their recent ticks.
#[derive(Debug)]
pub(in crate::web) struct Schedules {
    pub(in crate::web) rows: Vec<(ScheduleEntry, Vec<ScheduleEvent>)>,
    /// The number of all entries.
    pub(in crate::web) count: usize,
    pub(in crate::web) has_more: bool,
    pub(in crate::web) version: String,
}

impl Schedules {
    pub(in crate::web) async fn read(
        inspector: &Inspector,
        part: &Part,
    ) -> Result<Self, BrokerError> {
        let mut entries = inspector.schedules().await?;
        let (count, version) = (entries.len(), version_of_schedules(&entries));
        entries.retain(|entry| entry.name.contains(&part.name));
        let has_more = entries.len() > part.after.saturating_add(PAGE);
        let shown = entries.into_iter().skip(part.after).take(PAGE);
        let with_events = shown.map(async |entry| {
            let events = inspector.schedule_events(&entry.name, EVENTS).await?;
            Ok::<_, BrokerError>((entry, events))
        });
        let rows = stream::iter(with_events).buffered(AT_A_TIME);
        Ok(Self {
            rows: rows.try_collect().await?,
            count,
            has_more,
            version,
        })
    }
}
