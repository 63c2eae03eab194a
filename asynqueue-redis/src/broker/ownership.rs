//! The owner of a queue: one instance at a time does its upkeep, so that the cost does not depend on the number of
//! servers.
//!
//! The key `owner` of a queue names the instance. Each instance renews one key that shows that it is alive, and reads
//! in the same call which other owners are alive. So the cost does not grow with the number of queues, and a queue
//! whose owner has died has a new one within seconds. Two owners at the same time do no harm, only more work.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use asynqueue_core::broker::{Broker, BrokerError, kit};
use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::Value;

use super::{
    RedisBroker,
    known_upkeep::{Owner, Part},
    queue::Queue,
};
use crate::{keys, reply, script};

/// How long an instance counts as alive after it has renewed its key.
const ALIVE: Duration = Duration::from_secs(5);

/// How often it renews the key.
const RENEW: Duration = Duration::from_millis(1_500);

/// How often an owner reads a queue without known due tasks.
const LOOK_AGAIN: Duration = Duration::from_millis(2_500);

/// How many such reads an instance makes per second, for any number of queues.
const LOOKS_A_SECOND: f64 = 6.0;

/// Owners of up to this many queues do all upkeep of all of them each time. Owners of more do only the upkeep that may
/// find work.
const FEW: usize = 4;

/// The shortest time that an owner has a queue without reading it again.
const HELD: Duration = Duration::from_secs(10);

/// The shortest time before a queue with another owner is tried again, unless that owner releases it or dies.
const LEAVE: Duration = Duration::from_secs(15);

/// About how many instances try to take a free queue first. The others try later.
const CANDIDATES: usize = 8;

/// The head start of these instances.
const NOT_FIRST: Duration = Duration::from_secs(3);

/// The limit of other owners to query in one call.
const MAX_QUERIED: usize = 64;

/// An instance's view of the fleet and of its own queues.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// When it last renewed its key.
    renewed: Mutex<Option<Instant>>,
    /// The number of queues that it owns.
    owned: AtomicUsize,
    /// The approximate number of servers, 0 if unknown.
    pub(super) fleet: AtomicUsize,
    /// Whether the handle is being closed. Then it takes no more queues.
    is_closing: AtomicBool,
}

/// How often an owner of this many queues reads one of them, if nothing is known to be due.
fn pause(owned: usize) -> Duration {
    LOOK_AGAIN.max(Duration::from_secs_f64(owned as f64 / LOOKS_A_SECOND))
}

/// A random part of a duration.
fn part_of(time: Duration) -> Duration {
    time.mul_f64(rand::random())
}

impl RedisBroker {
    /// Whether this instance should do this part of a queue's upkeep now. Takes the queue if it has no owner.
    pub(super) async fn should_do(&self, queue: &Queue, part: Part) -> Result<bool, BrokerError> {
        if self.0.keeper.is_closing.load(Relaxed) {
            return Ok(false);
        }
        let is_own = queue.upkeep.lock().is_own(part, Instant::now());
        let is_own = match is_own {
            Some(is_own) => is_own,
            None => self.take_or_keep(queue).await?,
        };
        if !is_own {
            return Ok(false);
        }
        let owned = self.0.keeper.owned.load(Relaxed);
        let mut upkeep = queue.upkeep.lock();
        let may_find_work = owned <= FEW || upkeep.may_find_work(part, self.now(), owned);
        if may_find_work && part == Part::Trim {
            upkeep.trimmed = Some(Instant::now());
        }
        Ok(may_find_work)
    }

    /// Tries to take a queue. Returns whether this instance owns it now.
    async fn take_or_keep(&self, queue: &Queue) -> Result<bool, BrokerError> {
        self.renew_alive();
        let owned = self.0.keeper.owned.load(Relaxed);
        let (sent, held) = (Instant::now(), HELD.max(pause(owned + 1) * 3));
        let dead = {
            let mut upkeep = queue.upkeep.lock();
            upkeep.heard = None;
            match &upkeep.owner {
                Owner::Dead(dead) => dead.clone(),
                _ => String::new(),
            }
        };
        let args = script::keep::Args {
            not_after: self.script_clock(),
            instance: self.instance_tag(),
            millis: held.as_millis() as u64,
            dead,
        };
        let call = script::keep::call(&queue.keys, args);
        let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
        let owner = reply::text(reply::next(&mut answer)?)?;
        let left = reply::number(reply::next(&mut answer)?)?;
        let mut upkeep = queue.upkeep.lock();
        let was_own = matches!(upkeep.owner, Owner::Own(_));
        let is_own = owner == self.instance_tag();
        match (was_own, is_own) {
            (false, true) => drop(self.0.keeper.owned.fetch_add(1, Relaxed)),
            (true, false) => drop(self.0.keeper.owned.fetch_sub(1, Relaxed)),
            _ => {}
        }
        if is_own {
            upkeep.owner = Owner::Own(sent + held);
            upkeep.look_at = Some(sent + pause(owned));
            upkeep.next_due = reply::some_time(reply::next(&mut answer)?)?;
            upkeep.is_active = reply::number(reply::next(&mut answer)?)? > 0;
            upkeep.is_used = reply::number(reply::next(&mut answer)?)? > 0;
        } else {
            upkeep.owner = Owner::Other(owner);
            upkeep.look_at = Some(sent + self.leave_for(Duration::from_millis(left)));
        }
        Ok(is_own)
    }

    /// How long to leave a queue to an owner that has it for `left`. The random part limits the queries for a queue to
    /// one per second by all servers, and those by this server to a few.
    fn leave_for(&self, left: Duration) -> Duration {
        let fleet = self.0.keeper.fleet.load(Relaxed).max(1) as u32;
        let queues = self.0.queues.read().len() as u32;
        let spread = Duration::from_secs(2) * fleet + Duration::from_millis(400) * queues;
        LEAVE.max(left) + part_of(spread)
    }

    /// Renews the key that shows that this instance is alive, if it is time, and notes which other owners are not. Runs
    /// in the background: in a Cluster, the key may be on a node that does not respond.
    pub(super) fn renew_alive(&self) {
        let mut renewed = self.0.keeper.renewed.lock();
        if renewed.is_some_and(|last| last.elapsed() < RENEW) {
            return;
        }
        *renewed = Some(Instant::now());
        drop(renewed);
        let broker = self.clone();
        let renewing = async move {
            if let Err(error) = broker.query_alive().await {
                tracing::debug!(%error, "could not renew the ownership of queues");
            }
        };
        if let Err(error) = kit::io::spawn(renewing) {
            tracing::debug!(%error, "could not start renewing the ownership of queues");
        }
    }

    async fn query_alive(&self) -> Result<(), BrokerError> {
        let queues: Vec<_> = self.0.queues.read().values().cloned().collect();
        let mut others = HashSet::new();
        for queue in &queues {
            if let Owner::Other(other) = &queue.upkeep.lock().owner
                && others.len() < MAX_QUERIED
            {
                others.insert(other.clone());
            }
        }
        let others: Vec<_> = others.into_iter().collect();
        let alive = |instance: &String| keys::alive(&self.0.prefix, instance);
        let own = alive(&self.instance_tag());
        let keys_of_others: Vec<_> = others.iter().map(alive).collect();
        let keys_of_others: Vec<_> = keys_of_others.iter().map(String::as_str).collect();
        let keys = script::alive::Keys {
            own: &own,
            others: &keys_of_others,
        };
        let args = script::alive::Args {
            not_after: self.script_clock(),
            millis: ALIVE.as_millis() as u64,
        };
        let call = script::alive::call(keys, args);
        let answers = reply::array(call.send(self.link()).await?)?;
        let dead: HashSet<_> = others
            .into_iter()
            .zip(answers)
            .filter(|(_, answer)| *answer == Value::Int(0))
            .map(|(other, _)| other)
            .collect();
        if !dead.is_empty() {
            queues.iter().for_each(|queue| self.note_dead(queue, &dead));
        }
        Ok(())
    }

    fn note_dead(&self, queue: &Queue, dead: &HashSet<String>) {
        let mut upkeep = queue.upkeep.lock();
        if let Owner::Other(other) = &upkeep.owner
            && dead.contains(other)
        {
            upkeep.owner = Owner::Dead(other.clone());
            upkeep.look_at = Some(Instant::now() + self.try_after());
        }
    }

    /// Notes that a queue's owner has released it.
    pub(super) fn note_free(&self, queue: &Queue) {
        let mut upkeep = queue.upkeep.lock();
        if !matches!(upkeep.owner, Owner::Own(_)) {
            upkeep.look_at = Some(Instant::now() + self.try_after());
        }
    }

    /// When to try to take a free queue: a few instances try soon, the others later, within a time that grows with the
    /// fleet.
    fn try_after(&self) -> Duration {
        let fleet = self.0.keeper.fleet.load(Relaxed);
        let is_candidate = rand::random::<f64>() * fleet as f64 <= CANDIDATES as f64;
        match fleet {
            0..=CANDIDATES => Duration::ZERO,
            _ if is_candidate => part_of(Duration::from_secs(1)),
            _ => NOT_FIRST + part_of(Duration::from_millis(50) * fleet as u32),
        }
    }

    /// Releases the queues that this instance owns.
    pub(super) async fn release(&self, queues: &[Arc<Queue>]) -> Result<(), BrokerError> {
        let released = join_all(queues.iter().map(|queue| self.release_one(queue))).await;
        released.into_iter().collect()
    }

    async fn release_one(&self, queue: &Queue) -> Result<(), BrokerError> {
        {
            let mut upkeep = queue.upkeep.lock();
            if !matches!(upkeep.owner, Owner::Own(_)) {
                return Ok(());
            }
            upkeep.owner = Owner::Unknown;
            upkeep.look_at = None;
        }
        self.0.keeper.owned.fetch_sub(1, Relaxed);
        let args = script::release::Args {
            not_after: self.script_clock(),
            instance: self.instance_tag(),
            publish: self.link().publish_command(),
        };
        let call = script::release::call(&queue.keys, args);
        call.send(self.link()).await.map(drop)
    }

    /// Releases all queues and deletes the key that shows that this instance is alive. Best effort: what remains
    /// expires.
    pub(super) async fn release_all(&self) {
        self.0.keeper.is_closing.store(true, Relaxed);
        if self.0.keeper.renewed.lock().is_none() {
            return;
        }
        let queues: Vec<_> = self.0.queues.read().values().cloned().collect();
        let mut gone = redis::cmd("DEL");
        gone.arg(keys::alive(&self.0.prefix, &self.instance_tag()));
        let release = async {
            self.release(&queues).await?;
            self.command(&gone).await
        };
        match tokio::time::timeout(Duration::from_secs(1), release).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(%error, "could not release the ownership of queues");
            }
            Err(_) => tracing::debug!("could not release the ownership of queues in time"),
        }
    }

    /// The unique name of this instance.
    fn instance_tag(&self) -> String {
        keys::tag(self.0.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_of_many_queues_reads_a_few_per_second() {
        for owned in [1, 4, 15, 100, 1_000, 100_000] {
            let looks = owned as f64 / pause(owned).as_secs_f64();
            assert!(looks <= LOOKS_A_SECOND + 0.01, "{owned}: {looks}");
        }
        assert_eq!(pause(1), LOOK_AGAIN);
    }
}
