//! Leases, their outcomes, and the attempts that run under them.

use super::*;

impl Judge {
    pub(super) fn leased(&mut self, entry: &Entry, taken: &Taken) {
        let id = &taken.task;
        if self.paused.contains(&id.queue) {
            self.broken(
                Promise::Obeyed,
                entry,
                format!("{id} was leased while its queue was paused"),
            );
        }
        let held = Held {
            token: taken.token,
            node: entry.node,
            attempt: taken.attempt,
            since: entry.at,
        };
        let Some(story) = self.stories.get_mut(id) else {
            let what = format!("{id} was leased, but had not been accepted");
            return self.broken(Promise::States, entry, what);
        };
        let (waited, is_member) = (story.since, story.is_member);
        let (first, last) = story.next_attempt;
        let before = std::mem::replace(&mut story.state, State::Active(held));
        story.since = entry.at;
        match before {
            State::Waiting(due) if !is_member => {
                if due > entry.now && !self.troubles.was_due(due, waited) {
                    let early = due.since(entry.now);
                    let what = format!("{id} was leased {early:?} before it was due");
                    self.broken(Promise::NotEarly, entry, what);
                }
                if !(first..=last).contains(&taken.attempt) {
                    let what = format!(
                        "{id} was leased for attempt {}: expected attempt {first}",
                        taken.attempt
                    );
                    self.broken(Promise::Counted, entry, what);
                }
                self.check_prompt(entry, id, waited, due);
            }
            State::Waiting(_) => {
                let what = format!("{id} was leased while it waited for its group");
                self.broken(Promise::States, entry, what);
            }
            State::Active(held) => {
                let what = format!("{id} was leased while it was already leased: {held:?}");
                self.broken(Promise::OneOutcome, entry, what);
            }
            State::Completed | State::Archived | State::Gone => {
                let what = format!("{id} was leased after its end");
                self.broken(Promise::States, entry, what);
            }
        }
    }

    /// Checks a task that waited since a time without faults, and could have started immediately.
    fn check_prompt(&mut self, entry: &Entry, id: &TaskRef, since: Duration, due: Timestamp) {
        let Some(prompt) = self.bounds.prompt else {
            return;
        };
        // Since when it was due, by the time that cannot be set.
        let resumed = self.resumed.get(&id.queue).copied().unwrap_or_default();
        let waited = entry.now.since(due).min(entry.at - since);
        // Events from before the queue was resumed may become visible only then.
        let (late, from) = (waited.min(entry.at - resumed), entry.at - waited);
        if late > prompt && self.troubles.all_is_well(&id.queue, from, entry.at) {
            let what = format!("{id} was due for {late:?}");
            self.broken(Promise::Prompt, entry, what);
        }
    }

    pub(super) fn settled(&mut self, entry: &Entry, ending: &Ending) {
        let id = &ending.task;
        let story = self.stories.get_mut(id);
        let held = story.as_ref().and_then(|story| match &story.state {
            State::Active(held) if held.token == ending.token => Some(held.clone()),
            _ => None,
        });
        match (ending.settled, story, held) {
            (Settled::Stale, _, Some(held)) if !ending.is_reclaim => {
                let what = format!("the outcome of {held:?} was refused");
                self.broken(Promise::OneOutcome, entry, what);
            }
            (Settled::Stale, ..) => {}
            (_, Some(story), Some(held)) => {
                let was_cancelled = story.is_cancelled;
                record(entry, story, ending);
                self.check_outcome(entry, ending, &held, was_cancelled);
                self.count(ending);
                self.unlock(id, ending);
            }
            (_, story, None) => {
                let state = story.map(|story| format!("{:?}", story.state));
                let what = format!("an outcome of {id} was recorded without a lease: {state:?}");
                self.broken(Promise::OneOutcome, entry, what);
            }
            (_, None, Some(_)) => {}
        }
    }

    fn check_outcome(&mut self, entry: &Entry, ending: &Ending, held: &Held, was_cancelled: bool) {
        let id = &ending.task;
        if ending.is_reclaim && !self.troubles.may_have_lost(held, entry.at) {
            let what = format!("{id} was taken from a healthy worker: {held:?}");
            self.broken(Promise::LeaseHeld, entry, what);
        }
        if ending.settled == Settled::Cancelled && !was_cancelled {
            let what =
                format!("{id} was archived as cancelled, but cancellation was not requested");
            self.broken(Promise::Kept, entry, what);
        }
        let has_failed = matches!(ending.outcome, Outcome::Archive | Outcome::Retry { .. });
        if has_failed && ending.failure.is_none() {
            let what = format!("{id} failed without a reason");
            self.broken(Promise::Kept, entry, what);
        }
    }

    fn count(&mut self, ending: &Ending) {
        let counts = self.counts.entry(ending.task.queue.clone()).or_default();
        match ending.outcome {
            Outcome::Complete { .. } => counts.succeeded += 1,
            Outcome::Retry { .. } | Outcome::Archive if ending.is_reclaim => counts.lost += 1,
            Outcome::Retry { .. } | Outcome::Archive => counts.failed += 1,
            Outcome::Snooze { .. } | Outcome::Release | Outcome::Drop => {}
        }
    }

    pub(super) fn started(&mut self, entry: &Entry, id: &TaskRef, attempt: u32) {
        let Some(story) = self.stories.get_mut(id) else {
            let what = format!("{id} started, but had not been accepted");
            return self.broken(Promise::States, entry, what);
        };
        let is_held = match &story.state {
            State::Active(held) => held.node == entry.node && held.attempt == attempt,
            _ => false,
        };
        let has_started =
            attempt < story.last_attempt || (attempt == story.last_attempt && !story.is_released);
        let is_beside = story.runs.iter().any(|run| !run.has_ended);
        let last = story.last_attempt;
        story.last_attempt = attempt.max(last);
        story.is_released = false;
        story.runs.push(Run {
            node: entry.node,
            attempt,
            has_ended: false,
        });
        if has_started {
            let what = format!("attempt {attempt} of {id} started after attempt {last}");
            self.broken(Promise::OnceStarted, entry, what);
        }
        if !is_held {
            let what = format!(
                "attempt {attempt} of {id} started without a lease, beside another: {is_beside}"
            );
            self.broken(Promise::LeaseHeld, entry, what);
        }
    }

    pub(super) fn ended(&mut self, entry: &Entry, id: &TaskRef, attempt: u32, _: Done) {
        if let Some(story) = self.stories.get_mut(id) {
            let is_it = |run: &&mut Run| run.node == entry.node && run.attempt == attempt;
            if let Some(run) = story.runs.iter_mut().rev().find(is_it) {
                run.has_ended = true;
            }
        }
    }
}

/// Applies an outcome to a task.
fn record(entry: &Entry, story: &mut Story, ending: &Ending) {
    if ending.settled == Settled::Cancelled {
        story.state = State::Archived;
        return;
    }
    if let State::Active(held) = &story.state {
        // The server's application decides whether a failure counts.
        let counts = u32::from(matches!(ending.outcome, Outcome::Retry { .. }));
        story.next_attempt = (held.attempt, held.attempt.saturating_add(counts));
    }
    match ending.outcome {
        Outcome::Complete { .. } => story.state = State::Completed,
        Outcome::Retry { delay } => {
            if let State::Active(held) = &story.state {
                story.last_attempt = story.last_attempt.max(held.attempt);
            }
            story.wait(entry.at, entry.now + delay);
        }
        Outcome::Snooze { delay } => {
            story.is_released = true;
            story.wait(entry.at, entry.now + delay);
        }
        Outcome::Release => {
            story.is_released = true;
            story.wait(entry.at, Timestamp::default());
        }
        Outcome::Archive => story.state = State::Archived,
        Outcome::Drop => story.state = State::Gone,
    }
}
