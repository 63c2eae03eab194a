//! Changes of whole queues on request, and what is reported about active tasks.

use asynqueue_core::{
    broker::{BrokerError, Lease, Signal},
    process::Progress,
    task::{Name, TaskState},
};
use rusqlite::params;

use super::SqliteBroker;
use crate::{
    change::{COUNTED, Change, Event, Side},
    link::Need,
    sql::{Direct, Id, ready},
};

const REPORT: &str = "insert into asynqueue_running (queue, id, progress) \
     select queue, id, ?4 from asynqueue_lease where queue = ?1 and id = ?2 and token = ?3 \
     on conflict do update set progress = excluded.progress";

impl SqliteBroker {
    pub(super) async fn pause_all(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        let queues = queues.to_vec();
        let write = move |change: &mut Change<Direct<'_>>| {
            for name in &queues {
                let place = ready(change.queue(name))?;
                let queue = &mut change.queues[place];
                let resumed = queue.row.paused && !paused;
                queue.row.paused = paused;
                if resumed && queue.count(TaskState::Pending) > 0 {
                    let signal = Signal::Pending(name.clone());
                    change.events.push(Event::Signal(name.clone(), signal));
                }
            }
            Ok(())
        };
        self.link().write(Need::Own, write).await
    }

    /// Takes the name of a queue, so that all of it is gone in one step. Its rows are removed later, in pieces.
    pub(super) async fn delete_whole(&self, name: &Name, force: bool) -> Result<bool, BrokerError> {
        let name = name.clone();
        let write = move |change: &mut Change<Direct<'_>>| {
            let Some(place) = ready(change.known(&name))? else {
                return Ok(true);
            };
            let queue = &change.queues[place];
            let has_tasks = COUNTED.iter().any(|state| queue.count(*state) > 0);
            if has_tasks && !force {
                return Ok(false);
            }
            // What this transaction has changed in it before is written first.
            ready(change.finish())?;
            let id = change.queues.remove(place).id;
            let delete = "update asynqueue_queue set name = null where id = ?1";
            change.sql.0.prepare_cached(delete)?.execute([id])?;
            change.events.push(Event::QueueDeleted(name.clone()));
            Ok(true)
        };
        self.link().write(Need::Own, write).await
    }

    pub(super) async fn keep_progress(
        &self,
        progress: Vec<(Lease, Progress)>,
    ) -> Result<(), BrokerError> {
        let encoded = progress.into_iter().map(|(lease, progress)| {
            let bytes = rmp_serde::to_vec_named(&progress);
            let bytes = bytes.map_err(|error| {
                BrokerError::protocol("a progress cannot be encoded").caused_by(error)
            })?;
            Ok((lease, bytes))
        });
        let progress = encoded.collect::<Result<Vec<_>, BrokerError>>()?;
        let write = move |change: &mut Change<Direct<'_>>| {
            for (lease, progress) in &progress {
                let Some(queue) = ready(change.known(&lease.task.queue))? else {
                    continue;
                };
                let (queue, id) = (change.queues[queue].id, Id::of(&lease.task.id));
                let row = params![queue, id, lease.token.0 as i64, progress];
                change.sql.0.prepare_cached(REPORT)?.execute(row)?;
                change.note(Side::Running);
            }
            Ok(())
        };
        self.link().write(Need::Nothing, write).await
    }

    pub(super) async fn forget_guards(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        let guards = guards.to_vec();
        let write = move |change: &mut Change<Direct<'_>>| {
            for (queue, guard) in &guards {
                if let Some(queue) = ready(change.known(queue))? {
                    let forget = "delete from asynqueue_tick where queue = ?1 and guard = ?2";
                    let row = params![change.queues[queue].id, guard.as_str()];
                    change.sql.0.prepare_cached(forget)?.execute(row)?;
                }
            }
            Ok(())
        };
        self.link().write(Need::Own, write).await
    }
}
