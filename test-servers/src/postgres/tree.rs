//! The processes of a server, as Linux's `/proc` shows them.

use std::{process::Command, time::Duration};

/// A process, from `/proc/PID/stat`.
#[derive(Debug)]
pub(super) struct Seen {
    id: u32,
    parent: u32,
    is_zombie: bool,
    /// When it started, in ticks since the machine did. Distinguishes it from a later one with the same id.
    started: u64,
    /// User and system time, in ticks: its own, and that of its children that have ended.
    ticks: u64,
}

/// The length of a tick, on every platform that Linux has today.
const TICK: Duration = Duration::from_millis(10);

impl Seen {
    fn read(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before it may contain spaces.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            id,
            parent: number(1)?.try_into().ok()?,
            is_zombie: fields[0] == "Z",
            started: number(19)?,
            ticks: (11..=14).map(number).sum::<Option<u64>>()?,
        })
    }

    /// Whether it still runs. A process that has ended may wait for its new parent to notice.
    pub(super) fn is_alive(&self) -> bool {
        let now = Self::read(self.id).filter(|now| now.started == self.started);
        now.is_some_and(|now| !now.is_zombie)
    }

    /// Sends a signal, which fails if it has just ended.
    pub(super) fn signal(&self, signal: &str) {
        let id = self.id.to_string();
        let _ = Command::new("kill").args(["-s", signal, &id]).output();
    }
}

/// The children of a process.
pub(super) fn children(parent: u32) -> Vec<Seen> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
    let mut seen: Vec<_> = ids.filter_map(Seen::read).collect();
    seen.retain(|process| process.parent == parent);
    seen
}

/// CPU time of a process and all its children until now.
pub(super) fn cpu(parent: u32) -> Duration {
    let all = Seen::read(parent).into_iter().chain(children(parent));
    TICK * all.map(|process| process.ticks as u32).sum()
}
