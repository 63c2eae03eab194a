//! Accepting tasks.

use asynqueue_core::broker::{BrokerError, Conflict, NewTask};

use super::SqliteBroker;
use crate::{change::NewRow, link::Need, sql::ready};

impl SqliteBroker {
    pub(super) async fn accept(
        &self,
        tasks: Vec<NewTask>,
        need: Need,
    ) -> Result<Vec<Result<(), Conflict>>, BrokerError> {
        // Encoded here, so that the thread that writes does nothing else.
        let rows: Vec<_> = tasks.into_iter().map(NewRow::from).collect();
        let write = move |change: &mut crate::change::Change<crate::sql::Direct<'_>>| {
            rows.iter().map(|row| ready(change.enqueue(row))).collect()
        };
        self.link().write(need, write).await
    }
}
