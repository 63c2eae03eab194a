//! Schedule entries: reading them and the results of their ticks, and changing them.

use super::Inspector;
#[cfg(feature = "scheduler")]
use crate::scheduler::Timetable;
use crate::{
    broker::{BrokerError, ScheduleEntry, ScheduleEvent},
    task::Name,
};

impl Inspector {
    /// The schedule entries, by name.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn schedules(&self) -> Result<Vec<ScheduleEntry>, BrokerError> {
        self.broker.schedules().await
    }

    /// The results of an entry's last ticks, newest first.
    ///
    /// # Errors
    ///
    /// When the broker cannot be reached.
    pub async fn schedule_events(
        &self,
        name: &Name,
        limit: usize,
    ) -> Result<Vec<ScheduleEvent>, BrokerError> {
        self.broker.schedule_events(name, limit).await
    }

    /// The timetable, to add, pause, resume, trigger and remove entries.
    #[cfg(feature = "scheduler")]
    pub fn timetable(&self) -> Timetable {
        let timetable = Timetable::new(self.broker.clone());
        match self.actor() {
            Some(actor) => timetable.acting_as(actor.clone()),
            None => timetable,
        }
    }
}
