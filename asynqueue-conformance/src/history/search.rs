//! Searches for an order of concurrent steps in which a specification explains every response.
//!
//! The search is that of Wing and Gong, with the memory of Lowe: a combination of the ordered steps and the state they
//! lead to is searched only once.

use std::collections::HashSet;

/// When a step can have been taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// Not before this.
    pub(super) begin: u64,
    /// Not after this. `None` if it is unknown whether it was taken: at any time after its start, or never.
    pub(super) end: Option<u64>,
    /// The step that precedes it.
    pub(super) after: Option<usize>,
    /// The step that follows it, if it is taken at all.
    pub(super) before: Option<usize>,
    /// Of the steps with a rank that can be next, the lowest is tried first. This changes how long a search takes, but
    /// not its result.
    pub(super) rank: Option<u64>,
}

/// What each step does to a state.
pub(super) trait Specification {
    type State;

    /// The state before all steps.
    fn start(&self) -> Self::State;

    /// The states that a step can lead to, after the steps taken. Empty if its response is impossible in this state, or
    /// if the remaining steps certainly cannot follow.
    fn apply(&self, state: &Self::State, step: usize, taken: &Taken) -> Vec<Self::State>;

    /// Distinguishes states.
    fn digest(&self, state: &Self::State) -> u64;
}

/// The steps that were taken.
#[derive(Clone, Debug)]
pub(super) struct Taken(Vec<u64>);

impl Taken {
    fn none_of(steps: usize) -> Self {
        Self(vec![0; steps.div_ceil(64)])
    }

    /// Whether this step was taken.
    pub(super) fn has(&self, step: usize) -> bool {
        self.0[step / 64] & (1 << (step % 64)) != 0
    }

    fn flip(&mut self, step: usize) {
        self.0[step / 64] ^= 1 << (step % 64);
    }
}

/// The outcome of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// There is an order.
    Order,
    /// There is no order.
    NoOrder,
    /// The search gave up after the limit of tries.
    Undecided,
}

/// Searches with a limited number of tries. Also returns the number used.
pub(super) fn search<S: Specification>(spec: &S, spans: &[Span], tries: usize) -> (Found, usize) {
    let mut search = Search::new(spec, spans);
    let found = search.run(tries);
    (found, search.tries)
}

struct Search<'a, S: Specification> {
    spec: &'a S,
    spans: &'a [Span],
    /// The steps that must be taken, ordered by their start.
    certain: Vec<usize>,
    /// The steps that may have been taken.
    uncertain: Vec<usize>,
    taken: Taken,
    /// How many of the required steps are taken.
    done: usize,
    reached: HashSet<(Box<[u64]>, u64)>,
    tries: usize,
}

/// A state, and the steps to try in it.
struct Level<State> {
    state: State,
    digest: u64,
    /// In reverse.
    candidates: Vec<usize>,
    /// The step that is being tried, and the states that it leads to.
    tried: usize,
    next: Vec<State>,
}

impl<'a, S: Specification> Search<'a, S> {
    fn new(spec: &'a S, spans: &'a [Span]) -> Self {
        let mut by_begin: Vec<usize> = (0..spans.len()).collect();
        by_begin.sort_by_key(|step| (spans[*step].begin, *step));
        let is_certain = |step: &usize| spans[*step].end.is_some();
        let (certain, uncertain) = by_begin.into_iter().partition(is_certain);
        Self {
            spec,
            spans,
            certain,
            uncertain,
            taken: Taken::none_of(spans.len()),
            done: 0,
            reached: HashSet::new(),
            tries: 0,
        }
    }

    fn run(&mut self, tries: usize) -> Found {
        let mut levels = vec![self.level(self.spec.start())];
        while let Some(level) = levels.last_mut() {
            if self.done == self.certain.len() {
                return Found::Order;
            }
            if let Some(state) = level.next.pop() {
                let step = level.tried;
                self.take(step);
                let next = self.level(state);
                if self
                    .reached
                    .insert((self.taken.0.clone().into(), next.digest))
                {
                    levels.push(next);
                } else {
                    self.take_back(step);
                }
            } else if let Some(step) = level.candidates.pop() {
                if self.tries == tries {
                    return Found::Undecided;
                }
                self.tries += 1;
                level.tried = step;
                level.next = self.spec.apply(&level.state, step, &self.taken);
                if self.spans[step].end.is_none() {
                    // Without an effect, it may as well not have been taken.
                    let before = level.digest;
                    (level.next).retain(|state| self.spec.digest(state) != before);
                }
            } else {
                levels.pop();
                if let Some(before) = levels.last() {
                    self.take_back(before.tried);
                }
            }
        }
        Found::NoOrder
    }

    fn level(&self, state: S::State) -> Level<S::State> {
        Level {
            digest: self.spec.digest(&state),
            state,
            candidates: self.candidates(),
            tried: 0,
            next: Vec::new(),
        }
    }

    /// The steps that can be next, in reverse: the first to try must have been taken soonest, the last may not have
    /// been taken at all.
    fn candidates(&self) -> Vec<usize> {
        let mut first_end = u64::MAX;
        let mut certain = Vec::new();
        for step in &self.certain[self.first_left()..] {
            let span = self.spans[*step];
            if span.begin > first_end {
                break;
            }
            if !self.taken.has(*step) {
                first_end = first_end.min(span.end.unwrap_or(u64::MAX));
                certain.push(*step);
            }
        }
        let is_next = |step: &usize| {
            let span = self.spans[*step];
            span.begin < first_end
                && span.after.is_none_or(|first| self.taken.has(first))
                && !span.before.is_some_and(|then| self.taken.has(then))
        };
        certain.retain(is_next);
        certain.sort_by_key(|step| (self.spans[*step].end, *step));
        self.sort_ranked(&mut certain);
        for step in &self.uncertain {
            if !self.taken.has(*step) && is_next(step) {
                let place = self.place_by_rank(*step, &certain);
                certain.insert(place, *step);
            }
        }
        certain.reverse();
        certain
    }

    /// Sorts the steps with a rank, among the places that they have.
    fn sort_ranked(&self, steps: &mut [usize]) {
        let has_rank = |place: &usize| self.spans[steps[*place]].rank.is_some();
        let places: Vec<_> = (0..steps.len()).filter(has_rank).collect();
        let mut ranked: Vec<_> = places.iter().map(|place| steps[*place]).collect();
        ranked.sort_by_key(|step| self.spans[*step].rank);
        for (place, step) in places.into_iter().zip(ranked) {
            steps[place] = step;
        }
    }

    /// Before which of these steps to try one that may have been taken: before those of a higher rank, if it has one.
    fn place_by_rank(&self, step: usize, among: &[usize]) -> usize {
        let rank = self.spans[step].rank;
        let is_higher = |other: &usize| rank.is_some() && self.spans[*other].rank > rank;
        among.iter().position(is_higher).unwrap_or(among.len())
    }

    /// The index among the required steps before which all are taken.
    fn first_left(&self) -> usize {
        let left = (self.certain.iter()).position(|step| !self.taken.has(*step));
        left.unwrap_or(self.certain.len())
    }

    fn take(&mut self, step: usize) {
        self.taken.flip(step);
        self.done += usize::from(self.spans[step].end.is_some());
    }

    fn take_back(&mut self, step: usize) {
        self.taken.flip(step);
        self.done -= usize::from(self.spans[step].end.is_some());
    }
}

#[cfg(test)]
mod tests;
