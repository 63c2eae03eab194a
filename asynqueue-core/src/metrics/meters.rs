//! Cached handles of the recorder, so that the hot path does not look them up by labels.

use std::{
    collections::hash_map::RandomState,
    hash::{Hash, Hasher},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use hashbrown::{Equivalent, HashMap};

use crate::{sync::RwLock, task::Name};

/// The maximum number of queue and event pairs that are distinguished. Tasks of further queues count under the queue
/// `other`.
pub const MAX_SERIES: usize = 1_000;

static OTHER: Name = Name::from_static("other");

/// How long it takes until a recorder installed later is used.
const REGISTER_EVERY: Duration = Duration::from_secs(1);

/// The handles of one queue and event.
pub(super) trait Meter: Sized {
    fn register(queue: &Name, event: &Name) -> Self;
}

/// The handles of this process, by queue and event.
pub(super) struct Meters<M> {
    known: LazyLock<RwLock<ByPair<M>>>,
}

type ByPair<M> = HashMap<(Name, Name), Known<M>, RandomState>;

struct Known<M> {
    meter: Arc<M>,
    registered: Instant,
}

/// A pair to look up.
struct Pair<'a>(&'a Name, &'a Name);

impl<M: Meter> Meters<M> {
    pub(super) const fn new() -> Self {
        Self {
            known: LazyLock::new(RwLock::default),
        }
    }

    pub(super) fn of(&self, queue: &Name, event: &Name) -> Arc<M> {
        let known = self.known.read();
        let of_others = || {
            let is_full = known.len() >= MAX_SERIES;
            is_full.then(|| known.get(&Pair(&OTHER, event))).flatten()
        };
        if let Some(found) = known.get(&Pair(queue, event)).or_else(of_others)
            && found.registered.elapsed() < REGISTER_EVERY
        {
            return Arc::clone(&found.meter);
        }
        drop(known);
        self.register(queue, event)
    }

    #[cold]
    fn register(&self, queue: &Name, event: &Name) -> Arc<M> {
        let mut known = self.known.write();
        let is_other = known.len() >= MAX_SERIES && !known.contains_key(&Pair(queue, event));
        let queue = if is_other { &OTHER } else { queue };
        let meter = Arc::new(M::register(queue, event));
        let entry = Known {
            meter: Arc::clone(&meter),
            registered: Instant::now(),
        };
        known.insert((queue.clone(), event.clone()), entry);
        meter
    }
}

impl Hash for Pair<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0, self.1).hash(state);
    }
}

impl Equivalent<(Name, Name)> for Pair<'_> {
    fn equivalent(&self, key: &(Name, Name)) -> bool {
        *self.0 == key.0 && *self.1 == key.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Labels(String);

    impl Meter for Labels {
        fn register(queue: &Name, _event: &Name) -> Self {
            Self(queue.to_string())
        }
    }

    #[test]
    fn queues_beyond_the_maximum_count_as_other() {
        let (meters, event) = (Meters::<Labels>::new(), Name::from("e"));
        let queue = |n: usize| Name::from(format!("user-{n}"));
        for n in 0..MAX_SERIES {
            assert_eq!(meters.of(&queue(n), &event).0, format!("user-{n}"));
        }
        for n in MAX_SERIES..3 * MAX_SERIES {
            assert_eq!(meters.of(&queue(n), &event).0, "other");
        }
        assert_eq!(meters.of(&queue(7), &event).0, "user-7");
        assert_eq!(meters.known.read().len(), MAX_SERIES + 1);
    }
}
