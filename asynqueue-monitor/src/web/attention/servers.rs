//! Servers that are lost, or that are blocked.

use asynqueue_core::task::{Name, Timestamp};

use super::{Concern, Figures, Place, SPAN};
use crate::web::show;

/// A handler that blocks its thread weighs as many tasks, because its slot runs none.
const TASKS_OF_A_HANDLER: u64 = 10;

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    let now = figures.now;
    let servers = figures.servers.iter();
    let lost = servers.filter(|server| server.is_lost(now) && now.since(server.seen) < SPAN);
    let lost: Vec<_> = lost.collect();
    if !lost.is_empty() {
        let running: usize = lost.iter().map(|server| server.busy).sum();
        let seen: Vec<_> = lost
            .iter()
            .map(|server| (server.name.clone(), server.seen))
            .collect();
        let names: Vec<_> = seen.iter().map(|(name, _)| name.as_str()).collect();
        all.push(Concern {
            kind: "lost_servers",
            about: names.join(" "),
            weight: running as u64 + TASKS_OF_A_HANDLER * lost.len() as u64,
            count: lost.len() as u64,
            queue: None,
            cause: None,
            place: Place::Servers,
            text: lost_text(&seen, now),
        });
    }
    let stuck = figures.running().filter(|server| server.abandoned > 0);
    all.extend(stuck.map(|server| Concern {
        kind: "stuck_handlers",
        about: server.name.to_string(),
        weight: TASKS_OF_A_HANDLER * server.abandoned as u64,
        count: server.abandoned as u64,
        queue: None,
        cause: None,
        place: Place::Servers,
        text: format!(
            "{} has {} abandoned {} timeout.",
            server.name,
            show::number(server.abandoned as u64),
            match server.abandoned {
                1 => "handler that blocks its thread past its",
                _ => "handlers that block their threads past their",
            },
        ),
    }));
}

fn lost_text(servers: &[(Name, Timestamp)], now: Timestamp) -> String {
    const NAMED: usize = 5;
    let named =
        |(name, seen): &(Name, Timestamp)| format!("{name} ({})", show::distance(*seen, now));
    let named: Vec<_> = servers.iter().take(NAMED).map(named).collect();
    let others = match servers.len().saturating_sub(NAMED) {
        0 => String::new(),
        others => format!(" and {} others", show::number(others as u64)),
    };
    format!(
        "Servers lost in the last 15 minutes: {}{others}. Other servers of their queues reclaim their tasks when the leases expire.",
        named.join(", ")
    )
}
