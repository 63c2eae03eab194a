//! Makes a scenario smaller for as long as it breaks the same promise.

use asynqueue_core::testing::fleet::Promise;

use crate::{fleet, scenario::Scenario};

/// The smallest scenario found that breaks the promise that this one breaks first; this one if it breaks none.
pub(crate) fn shrink(scenario: &Scenario) -> Scenario {
    let Some(promise) = first_broken(scenario) else {
        return scenario.clone();
    };
    let mut smallest = scenario.clone();
    // Until nothing more can be taken away.
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
    let deeds = scenario.operators.iter().map(Vec::len).sum::<usize>();
    scenario.servers.len() + orders + scenario.schedulers.len() + deeds + scenario.strikes.len()
}

/// Scenarios with less, those that lack most first. Nodes keep their places, since strikes name them: clients are emptied, and servers
/// taken away from the end only.
fn smaller(of: &Scenario) -> Vec<Scenario> {
    let mut all = Vec::new();
    let mut add = |change: &dyn Fn(&mut Scenario)| {
        let mut smaller = of.clone();
        change(&mut smaller);
        if smaller != *of {
            all.push(smaller);
        }
    };
    add(&|scenario| scenario.operators.iter_mut().for_each(Vec::clear));
    for place in 0..of.producers.len() {
        add(&|scenario| scenario.producers[place].clear());
    }
    for place in 0..of.operators.len() {
        add(&|scenario| scenario.operators[place].clear());
    }
    for range in halves(of.strikes.len()) {
        add(&|scenario| drop(scenario.strikes.drain(range.clone())));
    }
    for (place, orders) in of.producers.iter().enumerate() {
        for range in halves(orders.len()) {
            add(&|scenario| drop(scenario.producers[place].drain(range.clone())));
        }
    }
    for (place, deeds) in of.operators.iter().enumerate() {
        for range in halves(deeds.len()) {
            add(&|scenario| drop(scenario.operators[place].drain(range.clone())));
        }
    }
    for place in 0..of.strikes.len() {
        add(&|scenario| scenario.strikes[place].percent = 100);
    }
    all
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
