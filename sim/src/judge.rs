//! The promises that depend on the scenario.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use asynqueue_core::{
    broker::{Conflict, Outcome, Settled},
    task::{FailureKind, TaskRef},
    testing::fleet::{Broken, Event, Fault, Promise, Report},
};

use crate::scenario::Scenario;

/// How long unknown events wait for a server that handles them.
const GRACE: Duration = Duration::from_secs(600);

/// The time after the last fault in which its effects end.
const SETTLED: Duration = Duration::from_secs(12);

/// The time after that in which ticks are checked. Schedulers stop soon after it.
const WATCHED: Duration = Duration::from_secs(10);

/// The header of a published event that lists its subscribers, one per line.
const SUBSCRIBERS: &str = "asynqueue-subscribers";

pub(crate) fn judge(scenario: &Scenario, report: &mut Report) {
    let mut broken = unknown_events(scenario, report);
    broken.extend(published(scenario, report));
    broken.extend(ticks(scenario, report));
    broken.extend(delivered(report));
    report.broken.extend(broken);
}

fn has(scenario: &Scenario, faults: &[Fault]) -> bool {
    let mut strikes = scenario.strikes.iter();
    strikes.any(|strike| faults.contains(&strike.fault))
}

/// An event that some server handles is not archived as unknown within its grace period.
fn unknown_events(scenario: &Scenario, report: &Report) -> Vec<Broken> {
    // The grace period is measured by clocks that were set.
    if has(scenario, &[Fault::NodeClock, Fault::StoreClock]) {
        return Vec::new();
    }
    let mut accepted = BTreeMap::new();
    let mut broken = Vec::new();
    for entry in &report.entries {
        match &entry.event {
            Event::Enqueued(task, Ok(())) => {
                accepted.insert(task.envelope.task_ref(), entry.at);
            }
            Event::Settled(ending) => {
                let failure = ending.failure.as_ref();
                let is_unknown =
                    failure.is_some_and(|failure| failure.kind == FailureKind::UnknownEvent);
                let at = accepted.get(&ending.task).copied().unwrap_or_default();
                if is_unknown && entry.at - at < GRACE {
                    let what = format!("{} was archived as unknown: {entry}", ending.task);
                    broken.push(Broken::new(Promise::Kept, what));
                }
            }
            _ => {}
        }
    }
    broken
}

/// A subscriber receives each event once.
fn published(scenario: &Scenario, report: &Report) -> Vec<Broken> {
    // A delayed request may take effect after the event has been forgotten.
    if has(
        scenario,
        &[
            Fault::StoreClock,
            Fault::NodeClock,
            Fault::Late,
            Fault::Twice,
        ],
    ) {
        return Vec::new();
    }
    let mut seen = BTreeSet::<TaskRef>::new();
    let mut broken = Vec::new();
    for entry in &report.entries {
        let Event::Enqueued(task, response) = &entry.event else {
            continue;
        };
        let id = task.envelope.task_ref();
        let is_subscribers = id.queue.contains('@') && !id.queue.starts_with('@');
        if !is_subscribers {
            continue;
        }
        match response {
            Ok(()) if !seen.insert(id.clone()) => {
                broken.push(Broken::new(
                    Promise::Published,
                    format!("{id} twice: {entry}"),
                ));
            }
            Err(Conflict::Id { .. } | Conflict::Unique { .. }) | Ok(()) => {}
            Err(conflict) => {
                let what = format!("{id} was refused: {conflict}");
                broken.push(Broken::new(Promise::Published, what));
            }
        }
    }
    broken
}

/// Without faults, each tick of each entry is enqueued.
fn ticks(scenario: &Scenario, report: &Report) -> Vec<Broken> {
    // A lost entry is declared again within a minute, and delayed requests may arrive in this time.
    let faults = [
        Fault::NodeClock,
        Fault::StoreClock,
        Fault::Forget,
        Fault::Late,
    ];
    if has(scenario, &faults) {
        return Vec::new();
    }
    let is_calm = |event: &Event| matches!(event, Event::Calm);
    let calm = report.entries.iter().find(|entry| is_calm(&entry.event));
    let Some(calm) = calm.map(|entry| entry.now + SETTLED) else {
        return Vec::new();
    };
    let end = calm + WATCHED;
    let first = scenario.servers.len() + scenario.producers.len();
    let mut broken = Vec::new();
    for (place, interval) in scenario.schedulers.iter().enumerate() {
        let node = first + place;
        let name = format!("entry-{place}@");
        let seen: BTreeSet<_> = report
            .entries
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Enqueued(task, Ok(())) => task
                    .tick
                    .as_ref()
                    .filter(|_| task.envelope.id.as_str().starts_with(&name)),
                _ => None,
            })
            .map(|tick| tick.tick.as_millis())
            .collect();
        let every = interval * 1_000;
        let from = calm.as_millis().div_ceil(every) * every;
        let missed = (from..end.as_millis()).step_by(every as usize);
        for tick in missed.filter(|tick| !seen.contains(tick)) {
            let what = format!("tick {tick} of {name} was not enqueued by node {node}");
            broken.push(Broken::new(Promise::OneTick, what));
        }
    }
    broken
}

/// An event whose delivery is recorded as complete has reached each of its subscribers.
fn delivered(report: &Report) -> Vec<Broken> {
    let mut published = BTreeMap::<TaskRef, Vec<TaskRef>>::new();
    let mut arrived = BTreeSet::<TaskRef>::new();
    let mut broken = Vec::new();
    for entry in &report.entries {
        match &entry.event {
            // A refused ID or lock means that the task arrived before.
            Event::Enqueued(task, Ok(()) | Err(Conflict::Id { .. } | Conflict::Unique { .. })) => {
                let (envelope, id) = (&task.envelope, task.envelope.task_ref());
                let names = envelope.headers.get(SUBSCRIBERS).unwrap_or_default();
                let of = |name| TaskRef::new(format!("{name}{}", id.queue), id.id.clone());
                if !names.is_empty() {
                    published.insert(id.clone(), names.lines().map(of).collect());
                }
                arrived.insert(id);
            }
            Event::Settled(ending)
                if ending.settled == Settled::Recorded
                    && matches!(ending.outcome, Outcome::Complete { .. }) =>
            {
                let expected = published.get(&ending.task).into_iter().flatten();
                let missing = expected.filter(|delivery| !arrived.contains(delivery));
                broken.extend(missing.map(|delivery| {
                    let what = format!("{delivery} never arrived: {entry}");
                    Broken::new(Promise::Published, what)
                }));
            }
            _ => {}
        }
    }
    broken
}
