//! Causes in words.

use std::time::Duration;

use super::{Cause, Delay, Taker, Turn};
use crate::{
    broker::{LimitInfo, LimitKind, Pause},
    duration::format_millis,
    task::{Name, Timestamp},
};

/// How many servers and events a sentence names.
const NAMED: usize = 5;

impl Cause {
    /// The cause in words, without a capital letter and a full stop. Times are relative to `now`.
    pub fn describe(&self, now: Timestamp) -> String {
        match self {
            Self::Paused { pause } => paused(pause.as_ref(), now),
            Self::NotDue { due, until } => {
                let due = distance(*due, now);
                match until {
                    Delay::Scheduled => format!("it is not due yet: due {due}"),
                    Delay::Retry => format!("its last attempt failed: the retry is due {due}"),
                    Delay::Limit => {
                        format!("it is over a limit of its handler, and is due again {due}")
                    }
                }
            }
            Self::Grouped { group } if group.is_empty() => {
                "it waits to be aggregated with other tasks".into()
            }
            Self::Grouped { group } => {
                format!("it waits in group `{group}` to be aggregated with other tasks")
            }
            Self::NoServer { away } if away.is_empty() => "no server takes from this queue".into(),
            Self::NoServer { away } => {
                format!("no server takes from this queue: {}", states(away))
            }
            Self::NoHandler { event, tasks } => {
                let count = tasks.map_or_else(String::new, |tasks| format!(" ({})", count(tasks)));
                format!(
                    "no server that takes from this queue has a handler for event `{event}`{count}"
                )
            }
            Self::Busy { servers } => busy(servers),
            Self::QueueLimit { servers, .. } => {
                let each = |taker: &Taker| {
                    let max = taker.max.unwrap_or(taker.slots);
                    format!("{} of {max} running on {}", taker.running, taker.server)
                };
                let each = some(servers, each);
                format!("the limit of this queue is reached: {each}")
            }
            Self::Limit {
                server, limit, due, ..
            } => limited(server, limit, *due, now),
            Self::Away { servers } => {
                format!("servers of this queue are away: {}", states(servers))
            }
            Self::Pending { tasks, latency } => pending(*tasks, *latency),
            Self::Turn(turn) => in_turn(turn, now),
        }
    }
}

fn paused(pause: Option<&Pause>, now: Timestamp) -> String {
    let Some(pause) = pause else {
        return "the queue is paused".into();
    };
    let mut text = format!("the queue was paused {}", distance(pause.since, now));
    if let Some(actor) = &pause.by {
        text += &format!(" by {actor}");
    }
    if let Some(reason) = &pause.reason {
        text += &format!(": {reason}");
    }
    text
}

fn busy(servers: &[Taker]) -> String {
    let slots: u64 = servers.iter().map(|server| server.slots).sum();
    let names = some(servers, |taker| taker.server.to_string());
    match (slots, servers) {
        (1, [_]) => format!("the only slot of {names} is busy"),
        (_, [_]) => format!("all {slots} slots of {names} are busy"),
        (_, servers) => format!(
            "all {slots} slots of {} servers are busy: {names}",
            servers.len()
        ),
    }
}

fn limited(server: &Name, limit: &LimitInfo, due: Option<Timestamp>, now: Timestamp) -> String {
    let (used, max) = (limit.used, limit.max);
    let use_of_it = match (limit.kind, limit.period) {
        (LimitKind::Rate, Some(period)) => {
            let attempts = if max == 1 { "attempt" } else { "attempts" };
            format!("{max} {attempts} in {}", words(period))
        }
        (LimitKind::Concurrency, _) => format!("{used} of {max} concurrent attempts"),
        _ => format!("{used} of {max}"),
    };
    let mut text = format!(
        "a limit of {} on {server} holds tasks back: {use_of_it}",
        events(&limit.events)
    );
    if let Some(next) = limit.next.filter(|next| *next > now) {
        text += &format!("; the next attempt may start {}", distance(next, now));
    }
    if limit.waiting > 0 {
        text += &format!("; about {} for it", waiting(limit.waiting));
    }
    if let Some(due) = due {
        text += &format!("; this task tries again {}", distance(due, now));
    }
    text
}

fn events(events: &[Name]) -> String {
    match events {
        [event] => format!("event `{event}`"),
        [] => "a handler".into(),
        events if events.len() <= NAMED => {
            let names: Vec<_> = events.iter().map(|event| format!("`{event}`")).collect();
            format!("events {}", names.join(", "))
        }
        events => format!("{} events", events.len()),
    }
}

fn pending(tasks: u64, latency: Duration) -> String {
    let verb = if tasks == 1 { "is" } else { "are" };
    let text = format!("{} {verb} pending", count(tasks));
    match latency.is_zero() {
        true => text,
        false => format!("{text}; the next one has waited for {}", words(latency)),
    }
}

fn in_turn(turn: &Turn, now: Timestamp) -> String {
    let mut text = match (turn.ahead, turn.is_exact) {
        (0, true) => "it is next in its queue".into(),
        (1, true) => "1 task is ahead of it".into(),
        (ahead, true) => format!("{ahead} tasks are ahead of it"),
        (ahead, false) => format!("at least {ahead} tasks are ahead of it"),
    };
    if let Some(start) = &turn.start {
        text += &format!(
            "; it starts {}, if attempts end as in the last {} ({})",
            match start.at > now {
                true if turn.is_exact => format!("in about {}", words(start.at.since(now))),
                true => format!("in {} at the earliest", words(start.at.since(now))),
                false => "now".into(),
            },
            words(start.within),
            match start.ended {
                1 => "1 attempt".into(),
                ended => format!("{ended} attempts"),
            }
        );
    }
    text
}

/// Servers with their states: `a is lost, b is quiet`.
fn states(servers: &[Taker]) -> String {
    some(servers, |taker| {
        format!("{} is {}", taker.server, taker.state.as_str())
    })
}

/// The first of a list, and how many more there are.
fn some(servers: &[Taker], word: impl Fn(&Taker) -> String) -> String {
    let words: Vec<_> = servers.iter().take(NAMED).map(word).collect();
    let words = words.join(", ");
    match servers.len().checked_sub(NAMED) {
        Some(more @ 1..) => format!("{words} and {more} more"),
        _ => words,
    }
}

fn count(tasks: u64) -> String {
    match tasks {
        1 => "1 task".into(),
        tasks => format!("{tasks} tasks"),
    }
}

fn waiting(tasks: u64) -> String {
    let verb = if tasks == 1 { "waits" } else { "wait" };
    format!("{} {verb}", count(tasks))
}

fn distance(time: Timestamp, now: Timestamp) -> String {
    match time > now {
        true => format!("in {}", words(time.since(now))),
        false => format!("{} ago", words(now.since(time))),
    }
}

/// A duration without units that are too small to matter: `1h 12m`, `5s`.
fn words(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let unit = match millis {
        0..1_000 => 1,
        1_000..3_600_000 => 1_000,
        3_600_000..86_400_000 => 60_000,
        _ => 3_600_000,
    };
    let mut text = format_millis(millis / unit * unit);
    let starts = |bytes: &[u8]| bytes[0].is_ascii_alphabetic() && bytes[1].is_ascii_digit();
    for place in (1..text.len()).rev() {
        if starts(&text.as_bytes()[place - 1..=place]) {
            text.insert(place, ' ');
        }
    }
    text
}
