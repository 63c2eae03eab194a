//! Sharing turns among queues.

use super::ServerError;
use crate::task::Name;

/// A server's queues, and which of them may have tasks.
#[derive(Debug)]
pub(super) struct QueueSet {
    queues: Vec<Queue>,
    strict: bool,
    /// Where the next poll starts.
    polled: usize,
}

#[derive(Debug)]
struct Queue {
    name: Name,
    weight: u32,
    limit: Option<usize>,
    /// Whether it may have tasks. A queue that returned fewer tasks than requested was empty, and is not leased from
    /// again until a signal or a poll. So an idle queue costs nothing.
    ready: bool,
    /// Whether it may be leased from together with others: not during another call, nor while it fails.
    open: bool,
    /// The credit of smooth weighted round-robin, as in nginx: each turn adds a queue's weight; the queue with the
    /// highest credit gets the turn and pays the sum of all weights.
    credit: i64,
}

/// How many tasks to lease from a queue.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// The index in the set.
    pub(super) queue: usize,
    /// The maximum number of tasks.
    pub(super) max: usize,
}

impl QueueSet {
    pub(super) fn new(
        queues: Vec<(Name, u32)>,
        limits: &[(Name, usize)],
        strict: bool,
    ) -> Result<Self, ServerError> {
        let mut set = Self {
            queues: Vec::with_capacity(queues.len()),
            strict,
            polled: 0,
        };
        for (name, weight) in queues {
            name.check_queue()?;
            if weight == 0 {
                return Err(ServerError::ZeroWeight { queue: name });
            }
            if set.position(&name).is_some() {
                return Err(ServerError::DuplicateQueue { queue: name });
            }
            set.queues.push(Queue {
                name,
                weight,
                limit: None,
                ready: true,
                open: true,
                credit: 0,
            });
        }
        for (name, limit) in limits {
            let problem = |problem| ServerError::QueueLimit {
                queue: name.clone(),
                problem,
            };
            let queue = set
                .position(name)
                .ok_or_else(|| problem("set, but this server does not lease from the queue: add the queue, or remove the limit"))?;
            if *limit == 0 {
                return Err(problem("0: expected at least 1"));
            }
            set.queues[queue].limit = Some(*limit);
        }
        if strict {
            set.queues
                .sort_by_key(|queue| std::cmp::Reverse(queue.weight));
        }
        Ok(set)
    }

    pub(super) fn len(&self) -> usize {
        self.queues.len()
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.queues.iter().map(|queue| queue.name.clone()).collect()
    }

    /// The queues with their weights.
    pub(super) fn weights(&self) -> Vec<(Name, u32)> {
        let weight = |queue: &Queue| (queue.name.clone(), queue.weight);
        self.queues.iter().map(weight).collect()
    }

    /// The limit of each queue.
    pub(super) fn limits(&self) -> Vec<Option<usize>> {
        self.queues.iter().map(|queue| queue.limit).collect()
    }

    pub(super) fn name(&self, queue: usize) -> &Name {
        &self.queues[queue].name
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.queues.iter().position(|queue| queue.name == *name)
    }

    /// Whether queues take turns by weight, rather than in strict priority.
    pub(super) fn share_turns(&self) -> bool {
        !self.strict
    }

    pub(super) fn any_ready(&self) -> bool {
        self.queues.iter().any(|queue| queue.ready && queue.open)
    }

    pub(super) fn set_open(&mut self, queue: usize, open: bool) {
        self.queues[queue].open = open;
    }

    /// Whether a queue may have tasks, and its limit allows one more than `running`.
    pub(super) fn has_room(&self, queue: usize, running: usize) -> bool {
        let queue = &self.queues[queue];
        queue.ready && queue.limit.is_none_or(|limit| running < limit)
    }

    pub(super) fn set_ready(&mut self, queue: usize, ready: bool) {
        self.queues[queue].ready = ready;
    }

    pub(super) fn set_all_ready(&mut self) {
        self.queues.iter_mut().for_each(|queue| queue.ready = true);
    }

    /// Marks the next `count` queues as ready, in turn.
    pub(super) fn set_next_ready(&mut self, count: usize) {
        for _ in 0..count.min(self.queues.len()) {
            self.queues[self.polled].ready = true;
            self.polled = (self.polled + 1) % self.queues.len();
        }
    }

    /// Divides `room` among the queues that may have tasks. `running` returns how many tasks of a queue are held here.
    pub(super) fn shares(&mut self, room: usize, running: impl Fn(usize) -> usize) -> Vec<Share> {
        let mut open: Vec<Share> = Vec::with_capacity(self.queues.len());
        for (index, queue) in self
            .queues
            .iter()
            .enumerate()
            .filter(|(_, queue)| queue.ready && queue.open)
        {
            let allowed = queue
                .limit
                .map_or(room, |limit| limit.saturating_sub(running(index)).min(room));
            if allowed > 0 {
                open.push(Share {
                    queue: index,
                    max: allowed,
                });
            }
        }
        if !self.strict && open.len() > 1 {
            self.weigh(&mut open, room);
        }
        open
    }

    /// Reduces the shares to turns by weight, `room` in total.
    fn weigh(&mut self, open: &mut Vec<Share>, room: usize) {
        let mut turns = vec![0; open.len()];
        for _ in 0..room {
            let mut total = 0;
            let mut richest: Option<(i64, usize)> = None;
            for (place, share) in open.iter().enumerate() {
                if turns[place] == share.max {
                    continue;
                }
                let queue = &mut self.queues[share.queue];
                queue.credit += i64::from(queue.weight);
                total += i64::from(queue.weight);
                if richest.is_none_or(|(credit, _)| credit < queue.credit) {
                    richest = Some((queue.credit, place));
                }
            }
            let Some((_, place)) = richest else { break };
            self.queues[open[place].queue].credit -= total;
            turns[place] += 1;
        }
        for (share, turns) in open.iter_mut().zip(turns) {
            share.max = turns;
        }
        open.retain(|share| share.max > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(queues: &[(&str, u32)], limits: &[(&str, usize)], strict: bool) -> QueueSet {
        let queues = queues
            .iter()
            .map(|(name, weight)| (Name::from(*name), *weight))
            .collect();
        let limits: Vec<_> = limits
            .iter()
            .map(|(name, max)| (Name::from(*name), *max))
            .collect();
        QueueSet::new(queues, &limits, strict).expect("valid queues")
    }

    fn shared(set: &mut QueueSet, room: usize) -> Vec<(usize, usize)> {
        set.shares(room, |_| 0)
            .iter()
            .map(|share| (share.queue, share.max))
            .collect()
    }

    #[test]
    fn a_full_room_is_shared_by_weight() {
        assert_eq!(
            shared(&mut set(&[("a", 6), ("b", 3), ("c", 1)], &[], false), 10),
            [(0, 6), (1, 3), (2, 1)]
        );
    }

    #[test]
    fn single_turns_add_up_to_the_weights_and_starve_no_queue() {
        let mut set = set(&[("a", 6), ("b", 3), ("c", 1)], &[], false);
        let mut turns = [0; 3];
        for _ in 0..100 {
            let [(queue, 1)] = shared(&mut set, 1)[..] else {
                panic!("one turn for one queue")
            };
            turns[queue] += 1;
        }
        assert_eq!(turns, [60, 30, 10]);
    }

    #[test]
    fn the_turns_of_an_empty_queue_go_to_the_others() {
        let mut set = set(&[("a", 6), ("b", 3)], &[], false);
        set.set_ready(0, false);
        assert_eq!(shared(&mut set, 9), [(1, 9)]);
        set.set_all_ready();
        assert_eq!(shared(&mut set, 9), [(0, 6), (1, 3)]);
    }

    #[test]
    fn polls_rotate_over_the_queues() {
        let mut set = set(&[("a", 1), ("b", 1), ("c", 1)], &[], true);
        let mut polled = |count| {
            (0..3).for_each(|queue| set.set_ready(queue, false));
            set.set_next_ready(count);
            let shares = shared(&mut set, 1);
            shares
                .into_iter()
                .map(|(queue, _)| queue)
                .collect::<Vec<_>>()
        };
        assert_eq!(polled(0), [0; 0]);
        assert_eq!(polled(2), [0, 1]);
        assert_eq!(polled(2), [0, 2]);
        assert_eq!(polled(9), [0, 1, 2]);
    }

    #[test]
    fn strict_priority_offers_all_room_to_the_heaviest_queue_first() {
        let mut set = set(&[("low", 1), ("high", 9)], &[], true);
        assert_eq!(shared(&mut set, 5), [(0, 5), (1, 5)]);
        assert_eq!(set.name(0), &"high");
    }

    #[test]
    fn a_queue_at_its_limit_gets_no_share() {
        let mut set = set(&[("a", 1), ("b", 1)], &[("a", 2)], false);
        assert_eq!(
            set.shares(10, |_| 0),
            [Share { queue: 0, max: 2 }, Share { queue: 1, max: 8 }]
        );
        assert_eq!(set.shares(10, |_| 2), [Share { queue: 1, max: 10 }]);
    }

    #[test]
    fn invalid_queues_are_rejected_by_name() {
        let refused = |queues: &[(&str, u32)], limits: &[(&str, usize)]| {
            let queues = queues
                .iter()
                .map(|(name, weight)| (Name::from(*name), *weight))
                .collect();
            let limits: Vec<_> = limits
                .iter()
                .map(|(name, max)| (Name::from(*name), *max))
                .collect();
            QueueSet::new(queues, &limits, false)
                .expect_err("invalid")
                .to_string()
        };
        assert!(refused(&[("a", 0)], &[]).contains("`a` has weight 0"));
        assert!(refused(&[("a", 1), ("a", 2)], &[]).contains("`a` is listed twice"));
        assert!(refused(&[("a", 1)], &[("b", 2)]).contains("`b` is set, but"));
        assert!(refused(&[("a", 1)], &[("a", 0)]).contains("`a` is 0: expected at least 1"));
        assert!(refused(&[("a b", 1)], &[]).contains("`a b`"));
    }
}
