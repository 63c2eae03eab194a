//! Generates the scenario of a seed.

use std::time::Duration;

use asynqueue_core::testing::fleet::{Fault, Fleet, Strike};
use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::scenario::{Act, Kind, Operation, Order, QUEUES, Scenario, ServerPlan};

/// The tasks that each producer enqueues in a rush.
const RUSH: usize = 150;

/// The start of a rush, in milliseconds after the start of the fleet.
const RUSH_AT: u64 = 1_000;

/// The random number generator with helpers for this file.
struct Chance(Xoshiro256PlusPlus);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0.random_range(0..end)
    }

    fn in_100(&mut self, cases: u64) -> bool {
        self.below(100) < cases
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn queue(&mut self) -> usize {
        self.below(QUEUES.len() as u64) as usize
    }
}

/// Generates the scenario of a seed.
pub(crate) fn scenario(seed: u64) -> Scenario {
    let mut chance = Chance(Xoshiro256PlusPlus::seed_from_u64(seed));
    let lasts = chance.one_of(&[5_000, 20_000, 60_000]);
    // In some fleets all tasks are quick, so that any waiting is noticeable.
    let is_quick = chance.in_100(35);
    let servers: Vec<_> = (0..1 + chance.below(4))
        .map(|place| server(&mut chance, place as usize, is_quick))
        .collect();
    let producers: Vec<Vec<_>> = (0..1 + chance.below(3))
        .map(|_| orders(&mut chance, lasts, is_quick))
        .collect();
    let schedulers = (0..chance.below(3)).map(|_| 1 + chance.below(5)).collect();
    let operators: Vec<_> = (0..chance.below(3))
        .map(|_| operations(&mut chance, servers.len(), is_quick))
        .collect();
    let mut scenario = Scenario {
        note: String::new(),
        seed,
        lasts,
        wall_leases: false,
        prompt: is_quick.then_some(3_000),
        servers,
        producers,
        schedulers,
        operators,
        strikes: Vec::new(),
    };
    scenario.strikes = strikes(&mut chance, &scenario);
    scenario.wall_leases = chance.in_100(50) && may_have_wall_leases(&scenario.strikes);
    if scenario.wall_leases {
        // Each server assumes that the leases of the others are as long as its own.
        let lease = scenario.servers[0].lease;
        for server in &mut scenario.servers {
            server.lease = lease;
        }
    }
    if chance.in_100(5) {
        rush(&mut chance, &mut scenario);
    }
    scenario
}

/// Strikes a fleet with a few kinds of faults, with all kinds, or with none.
fn strikes(chance: &mut Chance, scenario: &Scenario) -> Vec<Strike> {
    let mut faults = Fault::ALL.to_vec();
    match chance.below(10) {
        0 => return Vec::new(),
        1..=2 => {}
        _ => {
            let kinds = 1 + chance.below(4) as usize;
            faults = (0..kinds).map(|_| chance.one_of(&Fault::ALL)).collect();
        }
    }
    let nodes = scenario.servers.len()
        + scenario.producers.len()
        + scenario.schedulers.len()
        + scenario.operators.len();
    let mut fleet = Fleet::new(scenario.seed)
        .faults(faults)
        .lasting(Duration::from_millis(scenario.lasts));
    for _ in 0..nodes {
        fleet = fleet.client(|_| async {});
    }
    fleet.plan()
}

/// Enqueues many tasks together and restarts a server among them, as in a deployment at peak load, so that the server
/// holds waiting tasks.
fn rush(chance: &mut Chance, scenario: &mut Scenario) {
    for orders in &mut scenario.producers {
        for order in orders.iter_mut() {
            (order.after, order.waits) = (0, false);
        }
        orders[0].after = RUSH_AT;
        let quick = Order {
            after: 0,
            kind: Kind::Work,
            acts: vec![Act::Ok],
            ..orders[0].clone()
        };
        orders.resize(RUSH, quick);
    }
    let mut restart = Strike::new(Fault::Restart);
    restart.at = RUSH_AT + chance.below(200);
    restart.node = Some(chance.below(scenario.servers.len() as u64) as usize);
    scenario.strikes.push(restart);
}

/// Whether leases that are measured by the store's clock survive these faults. If the clock is set back and forward
/// between two checks of the leases, leases that were extended in between expire. The same happens if it steps while
/// the clock of a node is wrong, or while the response to a lease takes half as long as the lease.
fn may_have_wall_leases(strikes: &[Strike]) -> bool {
    let is_set = strikes
        .iter()
        .any(|strike| strike.fault == Fault::StoreClock);
    strikes.iter().all(|strike| match strike.fault {
        Fault::StoreClock => strike.amount > 0,
        Fault::NodeClock => false,
        Fault::Kill | Fault::Restart | Fault::Deaf | Fault::Forget | Fault::Freeze => true,
        _ => !is_set,
    })
}

fn server(chance: &mut Chance, place: usize, is_quick: bool) -> ServerPlan {
    ServerPlan {
        // At least one server handles all events.
        build: if place == 0 {
            1
        } else {
            chance.below(2) as usize
        },
        concurrency: match is_quick {
            true => 20,
            false => chance.one_of(&[1, 2, 4, 16]),
        },
        lease: chance.one_of(&[1_000, 3_000, 10_000]),
        poll: chance.one_of(&[1_000, 60_000]),
        shutdown: chance.one_of(&[0, 1_000, 8_000]),
        grace: chance.one_of(&[0, 500, 2_000]),
        strict: !is_quick && chance.in_100(20),
        limit: 1 + chance.below(3) as usize,
    }
}

fn orders(chance: &mut Chance, lasts: u64, is_quick: bool) -> Vec<Order> {
    let count = 1 + chance.below(40);
    let every = chance.one_of(&[10, 300, 2 * lasts / count]).max(1);
    (0..count).map(|_| order(chance, every, is_quick)).collect()
}

fn order(chance: &mut Chance, every: u64, is_quick: bool) -> Order {
    let kind = match chance.below(20) {
        0..=11 => Kind::Work,
        12..=13 => Kind::New,
        14..=15 if !is_quick => Kind::Limited,
        16..=17 => Kind::Member,
        18 => Kind::News,
        _ => Kind::Work,
    };
    let acts = (0..1 + chance.below(3))
        .map(|_| act(chance, is_quick))
        .collect();
    Order {
        after: chance.below(every),
        kind,
        acts,
        queue: chance.queue(),
        priority: if chance.in_100(20) {
            chance.below(10) as u8
        } else {
            0
        },
        delay: if chance.in_100(20) {
            chance.below(10_000)
        } else {
            0
        },
        max_retry: chance.below(5) as u32,
        timeout: 1_000 + chance.below(20_000),
        retention: chance.one_of(&[0, 0, 600_000]),
        unique: chance.in_100(15).then(|| chance.below(4) as u8),
        expires: chance.in_100(5).then(|| 1 + chance.below(20_000)),
        deadline: chance.in_100(5).then(|| 1 + chance.below(40_000)),
        waits: chance.in_100(20),
    }
}

fn act(chance: &mut Chance, is_quick: bool) -> Act {
    if is_quick || chance.in_100(50) {
        return match chance.below(10) {
            0..=6 => Act::Ok,
            7 => Act::Sleep(chance.below(50)),
            8 => Act::Fail,
            _ => Act::Enqueue,
        };
    }
    let short = chance.below(2_000);
    let long = chance.below(15_000);
    chance.one_of(&[
        Act::Sleep(short),
        Act::Sleep(long),
        Act::Fail,
        Act::Panic,
        Act::PanicInDrop(long),
        Act::Hang,
        Act::Block(long),
        Act::Stubborn(long),
        Act::Snooze(short),
        Act::SkipRetry,
        Act::Revoke,
        Act::TooLarge,
        Act::Enqueue,
    ])
}

fn operations(chance: &mut Chance, servers: usize, is_quick: bool) -> Vec<Operation> {
    let mut operations = Vec::new();
    for _ in 0..1 + chance.below(15) {
        operations.push(Operation::Wait(chance.below(3_000)));
        let task = chance.below(1_000);
        let queue = chance.queue();
        // A quiet server starts nothing, so quick fleets have none.
        let kinds = if is_quick { 9 } else { 11 };
        operations.push(match chance.below(kinds) {
            0 => Operation::Pause(queue),
            1 => Operation::Resume(queue),
            2 => Operation::Cancel(task),
            3 => Operation::Delete(task),
            4 => Operation::RunNow(task),
            5 => Operation::Retry(task),
            6 => Operation::Archive(task),
            7 => Operation::Edit(task),
            8 => Operation::Move(task, queue),
            9 => Operation::Quiet(chance.below(servers as u64) as usize, true),
            _ => Operation::Quiet(chance.below(servers as u64) as usize, false),
        });
    }
    operations
}
