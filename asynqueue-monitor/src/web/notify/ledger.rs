//! What a webhook was sent, and what has changed since.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::web::attention::{Concern, Key};

/// The shortest time between two notifications. Changes in between are sent together.
pub(super) const PAUSE: Duration = Duration::from_secs(60);

/// How long a problem must be gone before it counts as cleared, so that one that comes and goes sends no pair of
/// notifications each minute.
const GONE_FOR: Duration = Duration::from_secs(120);

/// How long tasks must have been without a server before that is announced, so that the restart of a program, or a
/// deployment, sends no notification.
const RESTART: Duration = Duration::from_secs(60);

/// The problems that a webhook knows about.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    known: BTreeMap<Key, Known>,
    /// Since when the current problems have been there.
    since: BTreeMap<Key, Instant>,
    /// When the last notification was attempted.
    tried: Option<Instant>,
    /// Whether the last notification was not accepted.
    is_refused: bool,
}

#[derive(Debug)]
struct Known {
    concern: Concern,
    /// When the problem was first missing, if it is.
    gone: Option<Instant>,
}

impl From<Concern> for Known {
    fn from(concern: Concern) -> Self {
        Self {
            concern,
            gone: None,
        }
    }
}

/// The changes that a notification reports.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) appeared: Vec<Concern>,
    pub(super) cleared: Vec<Concern>,
}

impl Ledger {
    /// The changes to send now. `None` if there are none, or if the last notification was too recent.
    pub(super) fn changes(&mut self, concerns: &[&Concern], now: Instant) -> Option<Changes> {
        self.since
            .retain(|key, _| concerns.iter().any(|concern| concern.is(key)));
        for concern in concerns {
            self.since.entry(concern.owned_key()).or_insert(now);
        }
        self.adopt(concerns);
        for (key, known) in &mut self.known {
            if let Some(concern) = concerns.iter().find(|concern| concern.is(key)) {
                known.concern = Concern::clone(concern);
                known.gone = None;
            } else if concerns.iter().any(|concern| hides(concern, key)) {
                known.gone = None;
            } else {
                known.gone.get_or_insert(now);
            }
        }
        if self
            .tried
            .is_some_and(|tried| now.duration_since(tried) < PAUSE)
        {
            return None;
        }
        let is_known = |concern: &&&Concern| !self.known.contains_key(&concern.owned_key());
        let lasts = |concern: &&&Concern| {
            let since = self.since.get(&concern.owned_key()).copied().unwrap_or(now);
            now.duration_since(since) >= announced_after(concern)
        };
        let appeared = concerns.iter().filter(is_known).filter(lasts);
        let is_over = |gone: Instant| now.duration_since(gone) >= GONE_FOR;
        let known = self.known.values();
        let cleared = known.filter(|known| known.gone.is_some_and(is_over));
        let changes = Changes {
            appeared: appeared.map(|concern| Concern::clone(concern)).collect(),
            cleared: cleared.map(|known| known.concern.clone()).collect(),
        };
        if changes == Changes::default() {
            return None;
        }
        self.tried = Some(now);
        Some(changes)
    }

    /// Takes the problems as known that have an entry now, and had a part in another one that was announced and lasts.
    /// Otherwise the gravest of 300 queues without a server would be announced again each time another one becomes the
    /// gravest.
    fn adopt(&mut self, concerns: &[&Concern]) {
        let lasts = |known: &Known| concerns.iter().any(|one| one.key() == known.concern.key());
        let covers = |known: &Known, key: &Key| known.concern.covers.contains(key);
        let new = concerns.iter().filter(|concern| {
            let key = concern.owned_key();
            let mut known = self.known.values();
            !self.known.contains_key(&key) && known.any(|known| covers(known, &key) && lasts(known))
        });
        let adopted: Vec<_> = new.map(|concern| Concern::clone(concern)).collect();
        for concern in adopted {
            self.known.insert(concern.owned_key(), Known::from(concern));
        }
    }

    /// Records that a notification was not accepted. Returns whether the one before was.
    pub(super) fn refused(&mut self) -> bool {
        !std::mem::replace(&mut self.is_refused, true)
    }

    /// Records that changes were accepted. Until then, they are sent again. Returns whether earlier ones were not.
    pub(super) fn sent(&mut self, changes: Changes) -> bool {
        for concern in &changes.cleared {
            self.known.remove(&concern.owned_key());
        }
        for concern in changes.appeared {
            self.known.insert(concern.owned_key(), Known::from(concern));
        }
        std::mem::take(&mut self.is_refused)
    }
}

/// Whether a problem has no entry because of another one. When no server is left, no queue and no event is listed by
/// itself, although none of them has one.
fn hides(concern: &Concern, key: &Key) -> bool {
    let is_of_servers = matches!(key.0, "unserved_queue" | "unhandled_event");
    concern.covers.contains(key) || (concern.kind == "no_server" && is_of_servers)
}

/// How long a problem must last before it is announced.
fn announced_after(concern: &Concern) -> Duration {
    match concern.kind {
        "no_server" | "unserved_queue" => RESTART,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::attention::Place;

    fn concern(about: &str) -> Concern {
        Concern {
            kind: "failing_cause",
            about: about.into(),
            weight: 1,
            count: 1,
            queue: None,
            cause: None,
            place: Place::Servers,
            covers: Vec::new(),
            text: about.into(),
        }
    }

    fn names(changes: Option<Changes>) -> Option<(Vec<String>, Vec<String>)> {
        let names = |all: Vec<Concern>| all.into_iter().map(|one| one.about).collect();
        changes.map(|changes| (names(changes.appeared), names(changes.cleared)))
    }

    fn expected(appeared: &[&str], cleared: &[&str]) -> Option<(Vec<String>, Vec<String>)> {
        let owned = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        Some((owned(appeared), owned(cleared)))
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn send(ledger: &mut Ledger, concerns: &[&Concern], at: Instant) -> Option<Changes> {
        let changes = ledger.changes(concerns, at)?;
        let copy = Changes {
            appeared: changes.appeared.clone(),
            cleared: changes.cleared.clone(),
        };
        ledger.sent(changes);
        Some(copy)
    }

    #[test]
    fn a_problem_is_announced_when_it_appears_and_when_it_has_cleared() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let (a, b) = (concern("a"), concern("b"));
        let mut at = |seconds, concerns: &[&Concern]| {
            names(send(&mut ledger, concerns, after(start, seconds)))
        };
        assert_eq!(at(0, &[&a]), expected(&["a"], &[]));
        assert_eq!(at(10, &[&a, &b]), None, "too soon");
        assert_eq!(at(60, &[&a, &b]), expected(&["b"], &[]));
        assert_eq!(at(120, &[&b]), None, "it may come back");
        assert_eq!(at(230, &[&b]), None);
        assert_eq!(at(240, &[&b]), expected(&[], &["a"]));
        assert_eq!(at(300, &[&b, &a]), expected(&["a"], &[]), "again");
    }

    #[test]
    fn a_problem_that_comes_and_goes_is_announced_once() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let a = concern("a");
        assert!(send(&mut ledger, &[&a], start).is_some());
        for minute in 1..30 {
            let there = [&a];
            let concerns = if minute % 2 == 0 { &there[..] } else { &[] };
            let at = after(start, minute * 60);
            assert_eq!(names(send(&mut ledger, concerns, at)), None, "{minute}");
        }
    }

    /// A part of a list that is long has one entry, and which problems these are changes by the minute.
    #[test]
    fn a_problem_that_joins_or_leaves_a_shared_entry_is_not_announced() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let (a, b) = (concern("a"), concern("b"));
        let shared = |covers: &[&Concern]| Concern {
            covers: covers.iter().map(|one| one.owned_key()).collect(),
            ..concern("others")
        };
        let (with_b, with_a, with_none) = (shared(&[&b]), shared(&[&a]), shared(&[]));
        let mut at = |minute: u64, concerns: &[&Concern]| {
            names(send(&mut ledger, concerns, after(start, minute * 60)))
        };
        assert_eq!(at(0, &[&a, &with_b]), expected(&["a", "others"], &[]));
        for minute in 1..9 {
            assert_eq!(at(minute, &[&b, &with_a]), None, "{minute}");
        }
        assert_eq!(at(9, &[&b, &with_none]), None, "`a` may come back");
        assert_eq!(at(11, &[&b, &with_none]), expected(&[], &["a"]));
        assert_eq!(at(12, &[]), None);
        assert_eq!(at(14, &[]), expected(&[], &["b", "others"]));
    }

    #[test]
    fn a_queue_without_a_server_has_not_cleared_when_the_last_server_ends() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let [a, b] = ["a", "b"].map(|name| Concern {
            kind: "unserved_queue",
            ..concern(name)
        });
        let none = Concern {
            kind: "no_server",
            ..concern("all")
        };
        let mut at = |minute: u64, concerns: &[&Concern]| {
            names(send(&mut ledger, concerns, after(start, minute * 60)))
        };
        assert_eq!(at(0, &[&a]), None);
        assert_eq!(at(1, &[&a]), expected(&["a"], &[]));
        assert_eq!(at(2, &[&none]), None);
        assert_eq!(at(3, &[&none]), expected(&["all"], &[]));
        for minute in 4..9 {
            assert_eq!(at(minute, &[&none]), None, "{minute}");
        }
        // A server returns that takes from neither.
        assert_eq!(at(9, &[&a, &b]), None);
        assert_eq!(at(10, &[&a, &b]), expected(&["b"], &[]));
        assert_eq!(at(11, &[&a, &b]), expected(&[], &["all"]));
    }

    /// Its tasks have no server for some seconds.
    #[test]
    fn the_restart_of_a_program_is_not_announced() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let gone = Concern {
            kind: "no_server",
            ..concern("a")
        };
        let mut at = |seconds, concerns: &[&Concern]| {
            names(send(&mut ledger, concerns, after(start, seconds)))
        };
        assert_eq!(at(0, &[&gone]), None);
        assert_eq!(at(50, &[&gone]), None);
        assert_eq!(at(60, &[]), None);
        assert_eq!(at(70, &[&gone]), None, "it is counted from here");
        assert_eq!(at(130, &[&gone]), expected(&["a"], &[]));
    }

    /// Otherwise a webhook that is away for a day fills the log.
    #[test]
    fn refused_notifications_are_logged_when_that_starts_and_when_it_ends() {
        let mut ledger = Ledger::default();
        assert!(!ledger.sent(Changes::default()));
        assert_eq!([ledger.refused(), ledger.refused()], [true, false]);
        assert!(ledger.sent(Changes::default()));
        assert!(ledger.refused());
    }

    #[test]
    fn changes_are_sent_again_until_they_are_accepted() {
        let (mut ledger, start) = (Ledger::default(), Instant::now());
        let a = concern("a");
        for minute in 0..3 {
            let at = after(start, minute * 60);
            assert_eq!(names(ledger.changes(&[&a], at)), expected(&["a"], &[]));
            assert_eq!(ledger.changes(&[&a], after(start, minute * 60 + 59)), None);
        }
        assert!(send(&mut ledger, &[&a], after(start, 180)).is_some());
        assert_eq!(ledger.changes(&[&a], after(start, 240)), None);
    }
}
