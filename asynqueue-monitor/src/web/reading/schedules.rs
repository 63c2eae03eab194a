//! The schedule, a page at a time.

use asynqueue_core::{
    broker::{BrokerError, ScheduleEntry, ScheduleEvent},
    inspector::Inspector,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::AT_A_TIME;
use crate::web::version::version_of_schedules;

/// How many ticks of each entry to read.
const EVENTS: usize = 5;

/// How many entries a page has.
pub(in crate::web) const PAGE: usize = 100;

/// Which part of the schedule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::web) struct Part {
    /// A part of the names of the entries.
    pub(in crate::web) name: String,
    /// How many such entries are before it.
    pub(in crate::web) after: usize,
}

/// A part of the entries, each with its last ticks.
#[derive(Debug)]
pub(in crate::web) struct Schedules {
    pub(in crate::web) rows: Vec<(ScheduleEntry, Vec<ScheduleEvent>)>,
    /// How many entries there are, whatever their names.
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
