//! The steps of calls: each changes one queue in one step.

mod beside;
mod ranks;

use std::{collections::HashSet, sync::Arc, time::Duration};

use asynqueue_core::{
    broker::{
        Conflict, Edit, Edited, Extended, Lease, LeaseToken, Leased, NewTask, Settled, Settlement,
        TaskInfo,
    },
    task::{Name, TaskRef},
};

use super::{
    Promises,
    call::{Answer, Call, Client, Request},
    search::Span,
};

pub(super) use self::ranks::pended;

/// A step of a call.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) client: Client,
    /// The index of its call.
    pub(super) call: usize,
    pub(super) kind: Kind,
    /// Whether it may leave a lease as it is, because another call holds it.
    pub(super) is_contested: bool,
}

/// What a step does, and its response if known.
#[derive(Debug)]
pub(super) enum Kind {
    Enqueue(NewTask, Option<Result<(), Conflict>>),
    Lease(LeaseStep),
    /// Takes up to this many tasks without a response.
    LoseLease {
        limit: Limit,
        lease: Duration,
        is_whole: bool,
    },
    /// There was no pending task.
    FindNone,
    Extend(Lease, Duration, Option<Extended>),
    Settle(SettleStep),
    Edit(Edit, Option<Edited>),
    Look(TaskRef, Option<TaskInfo>),
}

/// Tasks that were leased in one step.
#[derive(Debug)]
pub(super) struct LeaseStep {
    pub(super) tasks: Vec<Leased>,
    pub(super) lease: Duration,
    /// How many it could take.
    pub(super) limit: usize,
    /// Whether no pending task was left.
    pub(super) is_all: bool,
    pub(super) passes_over: PassesOver,
}

/// Which pending tasks a lease may leave out, or take after later ones.
#[derive(Clone, Copy, Debug)]
pub(super) enum PassesOver {
    None,
    /// Those that became pending after this.
    Since(u64),
    /// Any, because other calls may hold them.
    Any,
}

impl LeaseStep {
    /// Whether the response may be that of an earlier request whose response was lost: then a store does not report
    /// since when tasks were pending, and may return them in another order.
    pub(super) fn is_again(&self) -> bool {
        let is_untimed = |leased: &Leased| leased.pending_since.is_none();
        !self.tasks.is_empty() && self.tasks.iter().all(is_untimed)
    }
}

/// The maximum that a lost lease took.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    Of(usize),
    /// What is left of this step's own maximum.
    LeftBy(usize),
}

#[derive(Debug)]
pub(super) struct SettleStep {
    pub(super) settlement: Settlement,
    pub(super) answer: Option<Settled>,
    /// Earlier steps of unknown outcome that it repeats.
    pub(super) repeats: Vec<usize>,
    /// Whether a later one repeats it.
    pub(super) is_repeated: bool,
}

/// The steps of one queue.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) steps: Vec<Step>,
    pub(super) spans: Vec<Span>,
}

/// The visible part of a history.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Everything later is hidden.
    pub(super) until: u64,
    /// The calls whose responses are hidden, by index.
    pub(super) forgotten: HashSet<usize>,
}

impl View {
    pub(super) fn complete() -> Self {
        Self {
            until: u64::MAX,
            forgotten: HashSet::new(),
        }
    }

    /// The response to a call and its time, if they are visible.
    fn answer<'a>(
        &self,
        place: usize,
        call: &'a Call,
        promises: &Promises,
    ) -> (Option<&'a Answer>, Option<u64>) {
        let end = call.end.filter(|end| *end <= self.until);
        if end.is_some() && !self.forgotten.contains(&place) {
            return (call.answered(), end);
        }
        // It could have taken any tasks, not only the first ones. So it has taken those that it returns, or none.
        let is_in_order = promises.leases_in_order && promises.places_at_once;
        let is_lease = matches!(call.request, Request::Lease { .. });
        (call.answered().filter(|_| is_lease && !is_in_order), None)
    }
}

impl Steps {
    /// The steps of calls in a queue.
    pub(super) fn of(calls: &[Call], queue: &Name, promises: &Promises, view: &View) -> Self {
        let mut steps = Self::default();
        for (place, call) in calls.iter().enumerate() {
            if call.begin > view.until {
                continue;
            }
            let (answer, end) = view.answer(place, call, promises);
            let mut adding = Adding {
                steps: &mut steps,
                calls,
                promises,
                queue,
                call,
                place,
                end,
                passes_over: match promises.leases_in_order {
                    true => PassesOver::None,
                    false if beside::may_hold_pending(calls, place, queue) => PassesOver::Any,
                    false => PassesOver::Since(call.begin),
                },
                before: None,
            };
            adding.call(answer);
        }
        ranks::rank(&mut steps);
        steps
    }
}

/// A call whose steps are being added.
struct Adding<'a> {
    steps: &'a mut Steps,
    calls: &'a [Call],
    promises: &'a Promises,
    queue: &'a Name,
    call: &'a Call,
    place: usize,
    end: Option<u64>,
    /// What it passes over, if it is a lease.
    passes_over: PassesOver,
    before: Option<usize>,
}

impl Adding<'_> {
    fn call(&mut self, answer: Option<&Answer>) {
        let call = self.call;
        match &call.request {
            Request::Enqueue(tasks) => {
                let answers = match answer {
                    Some(Answer::Enqueued(answers)) => Some(answers),
                    _ => None,
                };
                for (place, task) in tasks.iter().enumerate() {
                    let answer = answers.map(|answers| answers[place].clone());
                    if task.envelope.queue == *self.queue {
                        self.enqueue(task, answer);
                    }
                }
            }
            Request::Lease { queues, lease } => {
                let place = queues.iter().position(|(queue, _)| queue == self.queue);
                let Some(place) = place else { return };
                match answer {
                    Some(Answer::Leased(answers)) => {
                        let leased = answers[place].as_deref().ok();
                        let mut before = answers[..place].iter().flatten();
                        // Only a call that has taken something does not wait for other holders.
                        let is_first = before.all(Vec::is_empty);
                        let is_none = leased.is_some_and(<[_]>::is_empty);
                        if is_first && is_none {
                            self.passes_over = PassesOver::None;
                        }
                        self.lease(queues[place].1, *lease, leased);
                    }
                    _ => self.lease(queues[place].1, *lease, None),
                }
            }
            Request::Extend(leases, by) => self.extend(leases, *by, answer),
            Request::Settle(settlements) => self.settle(settlements, answer),
            Request::Edit(edits) => {
                for (place, edit) in edits.iter().enumerate() {
                    let answer = match answer {
                        Some(Answer::Edited(answers)) => Some(answers[place]),
                        _ => None,
                    };
                    if edit.seen.envelope.queue == *self.queue {
                        self.add(answer.is_some(), Kind::Edit(edit.clone(), answer));
                    }
                }
            }
            Request::Look(tasks) => {
                let Some(Answer::Looked(answers)) = answer else {
                    return;
                };
                for (task, answer) in tasks.iter().zip(answers) {
                    if task.queue == *self.queue {
                        self.add(true, Kind::Look(task.clone(), answer.clone()));
                        // Each task is looked up separately.
                        self.before = None;
                    }
                }
            }
        }
    }

    fn enqueue(&mut self, task: &NewTask, answer: Option<Result<(), Conflict>>) {
        let before = self.before;
        let is_apart = matches!(answer, Some(Err(_))) && !self.promises.refuses_in_order;
        if is_apart {
            self.before = None;
        }
        self.add(answer.is_some(), Kind::Enqueue(task.clone(), answer));
        if is_apart {
            self.before = before;
        }
    }

    fn lease(&mut self, cap: usize, lease: Duration, leased: Option<&[Leased]>) {
        let is_whole = self.promises.leases_at_once;
        let Some(leased) = leased else {
            self.lose_leases(cap, lease, is_whole);
            return;
        };
        if is_whole {
            let tasks = leased.to_vec();
            let passes_over = self.passes_over;
            let is_all = tasks.len() < cap;
            let (limit, kind) = (cap, Kind::Lease);
            self.add(
                true,
                kind(LeaseStep {
                    tasks,
                    lease,
                    limit,
                    is_all,
                    passes_over,
                }),
            );
            return;
        }
        let mut limit = cap;
        for tasks in leased.chunk_by(|one, other| one.token == other.token) {
            let tasks = tasks.to_vec();
            let taken = tasks.len();
            let is_all = false;
            self.add(
                true,
                Kind::Lease(LeaseStep {
                    tasks,
                    lease,
                    limit,
                    is_all,
                    passes_over: PassesOver::None,
                }),
            );
            limit = limit.saturating_sub(taken);
        }
        let is_whole = self.call.took < self.promises.leases_whole_within;
        match limit {
            0 => {}
            _ if is_whole => self.add(true, Kind::FindNone),
            _ => self.lose_leases(limit, lease, false),
        }
    }

    /// What a call may have leased without a response: its first step, and the rest in another step.
    fn lose_leases(&mut self, limit: usize, lease: Duration, is_whole: bool) {
        let first = Limit::Of(limit);
        self.add(
            false,
            Kind::LoseLease {
                limit: first,
                lease,
                is_whole,
            },
        );
        if let Some(first) = self.before.filter(|_| !is_whole && limit > 1) {
            let limit = Limit::LeftBy(first);
            self.add(
                false,
                Kind::LoseLease {
                    limit,
                    lease,
                    is_whole,
                },
            );
        }
    }

    fn extend(&mut self, leases: &[Lease], by: Duration, answer: Option<&Answer>) {
        for (place, lease) in leases.iter().enumerate() {
            if lease.task.queue != *self.queue {
                continue;
            }
            let answer = match answer {
                Some(Answer::Extended(answers)) => answers[place].as_ref().ok().copied(),
                _ => None,
            };
            let extend = |answer| Kind::Extend(lease.clone(), by, answer);
            self.add(answer.is_some(), extend(answer));
            let last = self.before;
            if answer.is_some() && !self.promises.extends_once {
                self.add(false, extend(None));
                if let Some(span) = self.steps.spans.last_mut() {
                    (span.after, span.before) = (None, last);
                }
                self.before = last;
            }
        }
    }

    fn settle(&mut self, settlements: &[Settlement], answer: Option<&Answer>) {
        for (place, settlement) in settlements.iter().enumerate() {
            if settlement.envelope.queue != *self.queue {
                continue;
            }
            let answer = match answer {
                Some(Answer::Settled(answers)) => answers[place].as_ref().ok().copied(),
                _ => None,
            };
            let repeats = self.repeated(settlement);
            for step in &repeats {
                if let Kind::Settle(step) = &mut self.steps.steps[*step].kind {
                    step.is_repeated = true;
                }
            }
            if answer.is_none() && !repeats.is_empty() {
                // At most one of them takes effect, and the first may do so as late as this.
                continue;
            }
            let step = SettleStep {
                settlement: settlement.clone(),
                answer,
                repeats,
                is_repeated: false,
            };
            let before = self.before;
            self.add(answer.is_some(), Kind::Settle(step));
            if answer != Some(Settled::Recorded) {
                // A task to be cancelled may follow the others, because its failure has to be created first. By then,
                // another worker may have it.
                self.before = before;
            }
        }
    }

    /// The steps of unknown outcome that equal this one.
    fn repeated(&self, settlement: &Settlement) -> Vec<usize> {
        let client = self.call.client;
        let is_like = |step: &Step| match &step.kind {
            Kind::Settle(SettleStep {
                settlement: other,
                answer: None,
                ..
            }) => {
                step.client.process == client.process
                    && Arc::ptr_eq(&other.envelope, &settlement.envelope)
                    && (other.token, &other.outcome) == (settlement.token, &settlement.outcome)
            }
            _ => false,
        };
        let steps = self.steps.steps.iter().enumerate();
        let like = steps.filter(|(_, step)| step.call != self.place && is_like(step));
        like.map(|(place, _)| place).collect()
    }

    fn add(&mut self, is_certain: bool, kind: Kind) {
        let place = self.steps.steps.len();
        // A step of unknown outcome may have no effect, and then no place in the order, so the following steps do not
        // wait for it.
        let is_rest = matches!(
            kind,
            Kind::LoseLease {
                limit: Limit::LeftBy(_),
                ..
            }
        );
        let before = |step: &usize| is_rest || self.steps.spans[*step].end.is_some();
        let after = self.before.filter(before);
        let lease = match &kind {
            Kind::Extend(lease, ..) => Some(lease.task.clone()),
            Kind::Settle(SettleStep { settlement, .. }) if settlement.only_if_expired => {
                Some(settlement.envelope.task_ref())
            }
            _ => None,
        };
        let is_held = |task: &TaskRef| beside::may_hold_lease(self.calls, self.place, task);
        let is_contested = !self.promises.waits_for_holders && lease.as_ref().is_some_and(is_held);
        self.steps.steps.push(Step {
            client: self.call.client,
            call: self.place,
            kind,
            is_contested,
        });
        self.steps.spans.push(Span {
            begin: self.call.begin,
            end: self.end.filter(|_| is_certain),
            after,
            before: None,
            rank: None,
        });
        self.before = Some(place);
    }
}

/// Stands for the token of a lost lease, by the step that took it. No store uses such high tokens.
pub(super) fn lost_token(step: usize) -> LeaseToken {
    LeaseToken(u64::MAX - step as u64)
}

/// The step that took this lost lease.
pub(super) fn lost_step(token: LeaseToken, steps: usize) -> Option<usize> {
    let step = usize::try_from(u64::MAX - token.0).ok()?;
    (step < steps).then_some(step)
}
