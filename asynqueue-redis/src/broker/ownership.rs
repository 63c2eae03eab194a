//! Who looks after a queue: one instance at a time, so that upkeep costs the same however many servers there are.
//!
//! A queue's `owner` names the instance. An instance says that it is alive with one key for all of its queues, and asks in the
//! same call for the instances that own the others: so what it sends does not grow with the queues, and a queue whose owner
//! has died is taken over within seconds. Nothing depends on there being one owner: upkeep by two is only more work.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use asynqueue_core::{Broker, BrokerError};
use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::Value;

use super::{
    RedisBroker,
    known_upkeep::{Owner, Part},
    queue::Queue,
};
use crate::{keys, link, reply, script};

/// How long an instance counts as alive after it has said so.
const ALIVE: Duration = Duration::from_secs(5);

/// How often it says so.
const SAY_AGAIN: Duration = Duration::from_millis(1_500);

/// How often at most an owner looks at a queue of which nothing is known to be due.
const LOOK_AGAIN: Duration = Duration::from_millis(2_500);

/// How many such looks an instance makes in a second, however many queues it owns.
const LOOKS_A_SECOND: f64 = 6.0;

/// An owner of no more queues than this does all its upkeep of all of them each time; of more, only what is known to be of use.
const FEW: usize = 4;

/// How long a queue has its owner without another look, at least.
const HELD: Duration = Duration::from_secs(10);

/// How long to leave a queue to another at least, unless its owner gives it up or dies.
const LEAVE: Duration = Duration::from_secs(15);

/// About how many instances try to take a queue over that has become free. The others ask later.
const CANDIDATES: usize = 8;

/// How long these have, before the others ask.
const NOT_FIRST: Duration = Duration::from_secs(3);

/// The most other owners to ask for in one call.
const MAX_ASKED: usize = 64;

/// What an instance knows of the fleet and of its own part.
#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// When it last said that it is alive.
    said: Mutex<Option<Instant>>,
    /// How many queues it owns.
    owned: AtomicUsize,
    /// About how many servers there are; 0 if nothing is known of them.
    pub(super) fleet: AtomicUsize,
    /// Whether the handle is being closed, and takes no queue any more.
    is_closing: AtomicBool,
}

/// How long an owner of so many queues leaves one of them alone, if nothing is known to be due.
fn pause(owned: usize) -> Duration {
    LOOK_AGAIN.max(Duration::from_secs_f64(owned as f64 / LOOKS_A_SECOND))
}

/// A random part of a time.
fn part_of(time: Duration) -> Duration {
    time.mul_f64(rand::random())
}

impl RedisBroker {
    /// Whether this instance is to do this part of a queue's upkeep now. It takes the queue if nobody has it.
    pub(super) async fn looks_after(&self, queue: &Queue, part: Part) -> Result<bool, BrokerError> {
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
        let is_of_use = owned <= FEW || upkeep.is_of_use(part, self.now(), owned);
        if is_of_use && part == Part::Trim {
            upkeep.trimmed = Some(Instant::now());
        }
        Ok(is_of_use)
    }

    /// Asks for a queue. Returns whether this instance has it now.
    async fn take_or_keep(&self, queue: &Queue) -> Result<bool, BrokerError> {
        self.say_alive();
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

    /// How long to leave a queue to an owner that has it for this long still. The random part makes the questions of all
    /// servers about a queue one in a second, and those of this server a few.
    fn leave_for(&self, left: Duration) -> Duration {
        let fleet = self.0.keeper.fleet.load(Relaxed).max(1) as u32;
        let queues = self.0.queues.read().len() as u32;
        let spread = Duration::from_secs(2) * fleet + Duration::from_millis(400) * queues;
        LEAVE.max(left) + part_of(spread)
    }

    /// Says that this instance is alive, if it is time to, and notes which other owners are not. Nobody waits for it: on a Cluster
    /// this may be on a node that does not answer.
    pub(super) fn say_alive(&self) {
        let mut said = self.0.keeper.said.lock();
        if said.is_some_and(|last| last.elapsed() < SAY_AGAIN) {
            return;
        }
        *said = Some(Instant::now());
        drop(said);
        let broker = self.clone();
        let saying = async move {
            if let Err(error) = broker.ask_who_is_alive().await {
                tracing::debug!(%error, "Redis did not hear that this process looks after queues");
            }
        };
        if let Err(error) = link::spawn(saying) {
            tracing::debug!(%error, "nothing says that this process looks after queues");
        }
    }

    async fn ask_who_is_alive(&self) -> Result<(), BrokerError> {
        let queues: Vec<_> = self.0.queues.read().values().cloned().collect();
        let mut others = HashSet::new();
        for queue in &queues {
            if let Owner::Other(other) = &queue.upkeep.lock().owner
                && others.len() < MAX_ASKED
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

    /// Notes that a queue's owner has given it up.
    pub(super) fn note_free(&self, queue: &Queue) {
        let mut upkeep = queue.upkeep.lock();
        if !matches!(upkeep.owner, Owner::Own(_)) {
            upkeep.look_at = Some(Instant::now() + self.try_after());
        }
    }

    /// When to try to take a queue that is free: a few of the fleet soon, and the others, should these be lost too, within a time that
    /// grows with the fleet.
    fn try_after(&self) -> Duration {
        let fleet = self.0.keeper.fleet.load(Relaxed);
        let is_candidate = rand::random::<f64>() * fleet as f64 <= CANDIDATES as f64;
        match fleet {
            0..=CANDIDATES => Duration::ZERO,
            _ if is_candidate => part_of(Duration::from_secs(1)),
            _ => NOT_FIRST + part_of(Duration::from_millis(50) * fleet as u32),
        }
    }

    /// Gives up the care of those queues that this instance has.
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

    /// Gives up all queues, and says that this instance is alive no more. Best effort: what is left ends by its time.
    pub(super) async fn release_all(&self) {
        self.0.keeper.is_closing.store(true, Relaxed);
        if self.0.keeper.said.lock().is_none() {
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
                tracing::debug!(%error, "the upkeep of queues was not handed over");
            }
            Err(_) => tracing::debug!("the upkeep of queues was not handed over in time"),
        }
    }

    /// Names this instance among all.
    fn instance_tag(&self) -> String {
        keys::tag(self.0.instance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_of_many_queues_looks_at_a_few_in_a_second() {
        for owned in [1, 4, 15, 100, 1_000, 100_000] {
            let looks = owned as f64 / pause(owned).as_secs_f64();
            assert!(looks <= LOOKS_A_SECOND + 0.01, "{owned}: {looks}");
        }
        assert_eq!(pause(1), LOOK_AGAIN);
    }
}
