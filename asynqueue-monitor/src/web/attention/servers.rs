//! Servers that are lost, or that are blocked.

use asynqueue_core::{broker::ServerInfo, task::Timestamp};

use super::{Concern, Figures, Place, SPAN, tasks};
use crate::web::show;

/// A handler that blocks its thread weighs as many tasks, because its slot runs none.
const TASKS_OF_A_HANDLER: u64 = 10;

/// More lost servers than this share an entry, so that the loss of a data center does not hide everything else.
const EACH: usize = 3;

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    let now = figures.now;
    let servers = figures.servers.iter();
    let lost = servers.filter(|server| server.is_lost(now) && now.since(server.seen) < SPAN);
    let lost: Vec<_> = lost.collect();
    match lost.len() {
        0 => {}
        // Notifications follow each problem by what it is about, so a server that is lost later is announced too.
        1..=EACH => all.extend(lost.iter().map(|one| of_lost(&one.name, &[one], now))),
        _ => all.push(of_lost("", &lost, now)),
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
        covers: Vec::new(),
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

/// Servers that are lost, as one problem.
fn of_lost(about: &str, lost: &[&ServerInfo], now: Timestamp) -> Concern {
    let running: usize = lost.iter().map(|server| server.busy).sum();
    Concern {
        kind: "lost_servers",
        about: about.to_owned(),
        weight: running as u64 + TASKS_OF_A_HANDLER * lost.len() as u64,
        count: lost.len() as u64,
        queue: None,
        cause: None,
        place: Place::Servers,
        covers: lost
            .iter()
            .map(|server| ("lost_servers", server.name.to_string()))
            .collect(),
        text: lost_text(lost, now),
    }
}

fn lost_text(servers: &[&ServerInfo], now: Timestamp) -> String {
    const NAMED: usize = 5;
    let running: usize = servers.iter().map(|server| server.busy).sum();
    let rest = match running {
        0 => "No tasks were running there.".to_owned(),
        1 => "The task that was running there waits until its lease expires, and for another server of its queue.".to_owned(),
        _ => format!(
            "The {} that were running there wait until their leases expire, and for other servers of their queues.",
            tasks(running as u64)
        ),
    };
    if let [server] = servers {
        let seen = show::distance(server.seen, now);
        return format!("{} was lost {seen}. {rest}", server.name);
    }
    let named = |server: &&ServerInfo| {
        let seen = show::distance(server.seen, now);
        format!("{} ({seen})", server.name)
    };
    let named: Vec<_> = servers.iter().take(NAMED).map(named).collect();
    let others = match servers.len().saturating_sub(NAMED) {
        0 => String::new(),
        others => format!(" and {} others", show::number(others as u64)),
    };
    format!(
        "Servers lost in the last 15 minutes: {}{others}. {rest}",
        named.join(", ")
    )
}
