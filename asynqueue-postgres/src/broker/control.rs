//! Changes of whole queues on request, and what is reported about active tasks.

use asynqueue_core::{
    broker::{BrokerError, Lease, kit::Announced},
    process::Progress,
    task::Name,
};

use super::{PostgresBroker, lease::queues_of};
use crate::{
    link::Event,
    sql::{
        Call, Value,
        values::{blobs, id_bytes, ints, longs, text, texts},
    },
};

impl PostgresBroker {
    pub(super) async fn pause_all(&self, queues: &[Name], paused: bool) -> Result<(), BrokerError> {
        let mut names: Vec<_> = queues.iter().collect();
        // In one order, so that calls do not wait for each other in a circle.
        names.sort_unstable();
        names.dedup();
        let sql = "select asynqueue.set_paused($1, $2)";
        let call = Call::new(sql, [texts(names), Value::Flag(paused)]);
        let resumed = self.link().call(&call).await?;
        let events = resumed
            .iter()
            .map(|row| Event::Pending(Name::from(row.get::<_, String>(0)), None));
        self.link().announce(events.collect());
        Ok(())
    }

    /// Takes the name of a queue, so that all of it is gone in one step. Its rows are removed later, in pieces.
    pub(super) async fn delete_whole(&self, name: &Name, force: bool) -> Result<bool, BrokerError> {
        let sql = "select asynqueue.delete_queue($1, $2)";
        let call = Call::new(sql, [text(name), Value::Flag(force)]);
        let rows = self.link().call(&call).await?;
        let is_gone = rows.first().is_some_and(|row| row.get(0));
        if is_gone {
            self.0.created.forget(name);
            let deleted = Event::Now(Announced::QueueDeleted(name.clone()));
            self.link().announce(vec![deleted]);
        }
        Ok(is_gone)
    }

    pub(super) async fn keep_progress(
        &self,
        progress: Vec<(Lease, Progress)>,
    ) -> Result<(), BrokerError> {
        let encoded = progress.iter().map(|(_, progress)| {
            rmp_serde::to_vec_named(progress).map_err(|error| {
                BrokerError::protocol("a progress cannot be encoded").caused_by(error)
            })
        });
        let encoded = encoded.collect::<Result<Vec<_>, _>>()?;
        let leases = || progress.iter().map(|(lease, _)| lease);
        let (names, of) = queues_of(leases().map(|lease| &lease.task.queue));
        let call = Call::new(
            "select asynqueue.report($1, $2, $3, $4, $5)",
            [
                texts(names),
                ints(of),
                blobs(leases().map(|lease| id_bytes(&lease.task.id))),
                longs(leases().map(|lease| lease.token.0 as i64)),
                blobs(encoded),
            ],
        );
        self.link().call(&call).await.map(drop)
    }

    pub(super) async fn forget_guards(&self, guards: &[(Name, Name)]) -> Result<(), BrokerError> {
        let sql = "delete from asynqueue.tick t using unnest($1, $2) u(name, guard), asynqueue.queue q \
             where q.name = u.name and t.queue = q.id and t.guard = u.guard";
        let (queues, guards): (Vec<_>, Vec<_>) =
            guards.iter().map(|(queue, guard)| (queue, guard)).unzip();
        let call = Call::new(sql, [texts(queues), texts(guards)]);
        self.link().call(&call).await.map(drop)
    }
}
