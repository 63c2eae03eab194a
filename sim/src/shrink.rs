//! Shrinks a scenario while it breaks the same promise.

use asynqueue_core::testing::fleet::Promise;

use crate::{fleet, scenario::Scenario};

/// The smallest scenario found that breaks the same promise first. Returns the scenario itself if it breaks none.
pub(crate) fn shrink(scenario: &Scenario) -> Scenario {
    let Some(promise) = first_broken(scenario) else {
        return scenario.clone();
    };
    let mut smallest = scenario.clone();
    // Until no part can be removed.
    while let Some(smaller) = smaller(&smallest)
        .into_iter()
        .find(|smaller| first_broken(smaller) == Some(promise))
    {
        eprintln!("{} parts", parts(&smaller));
        smallest = smaller;
    }
    smallest
}

fn first_broken(scenario: &Scenario) -> Option<Promise> {
    let report = fleet::run(scenario);
    report.broken.first().map(|broken| broken.promise)
}

fn parts(scenario: &Scenario) -> usize {
    let orders = scenario.producers.iter().map(Vec::len).sum::<usize>();
    let operations = scenario.operators.iter().map(Vec::len).sum::<usize>();
    scenario.servers.len()
        + orders
        + scenario.schedulers.len()
        + operations
        + scenario.strikes.len()
}

/// Smaller scenarios, smallest first.
fn smaller(of: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = of.clone();
        change(&mut smaller);
        if smaller != *of {
            all.push(smaller);
        }
    };
    let nodes = of.servers.len() + of.producers.len() + of.schedulers.len() + of.operators.len();
    // The first server stays: it handles every event.
    for place in (1..nodes).rev() {
        add(&|scenario| remove_node(scenario, place));
    }
    for range in halves(of.strikes.len()) {
        add(&|scenario| drop(scenario.strikes.drain(range.clone())));
    }
    for (place, orders) in of.producers.iter().enumerate() {
        for range in halves(orders.len()) {
            add(&|scenario| drop(scenario.producers[place].drain(range.clone())));
        }
    }
    for (place, operations) in of.operators.iter().enumerate() {
        for range in halves(operations.len()) {
            add(&|scenario| drop(scenario.operators[place].drain(range.clone())));
        }
    }
    for place in 0..of.strikes.len() {
        add(&|scenario| scenario.strikes[place].percent = 100);
    }
    all
}

/// Removes a node with its strikes. The other nodes keep their strikes.
fn remove_node(scenario: &mut Scenario, place: usize) {
    let mut at = place;
    if at < scenario.servers.len() {
        scenario.servers.remove(at);
    } else {
        at -= scenario.servers.len();
        if at < scenario.producers.len() {
            scenario.producers.remove(at);
        } else if at - scenario.producers.len() < scenario.schedulers.len() {
            scenario.schedulers.remove(at - scenario.producers.len());
        } else {
            at -= scenario.producers.len() + scenario.schedulers.len();
            scenario.operators.remove(at);
        }
    }
    scenario.strikes.retain(|strike| strike.node != Some(place));
    for strike in &mut scenario.strikes {
        strike.node = strike.node.map(|node| node - usize::from(node > place));
    }
}

/// Halves, quarters and so on of a list, down to single items.
fn halves(length: usize) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut size = length;
    while size > 0 {
        let starts = (0..length).step_by(size);
        ranges.extend(starts.map(|start| start..length.min(start + size)));
        size /= 2;
    }
    ranges
}
