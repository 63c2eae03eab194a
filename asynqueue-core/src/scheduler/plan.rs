//! What to do with the due ticks of an entry.

use std::time::Duration;

use super::{Rule, entry::task_of};
use crate::{
    ambient,
    broker::{Fire, MissedTicks, ScheduleEntry, Tick},
    task::{Name, TaskId, Timestamp},
};

/// A tick no older than this does not count as missed: the scheduler was only busy.
const LATE: Duration = Duration::from_secs(10);

/// The maximum number of missed ticks of one entry that are made up.
const MAX_MADE_UP: usize = 1_000;

/// The ticks to fire now, in order.
pub(super) fn plan(entry: &ScheduleEntry, rule: &Rule, now: Timestamp) -> Vec<Fire> {
    // If it is not due, another scheduler has already advanced it.
    let Some(first) = entry.next.filter(|next| *next <= now) else {
        return Vec::new();
    };
    let keep = match entry.missed {
        MissedTicks::Skip | MissedTicks::Once => 1,
        MissedTicks::Last(count) => (count as usize).clamp(1, MAX_MADE_UP),
    };
    let mut ticks = rule.last_until(now, first, keep);
    if entry.missed == MissedTicks::Skip {
        ticks.retain(|tick| now.since(*tick) <= LATE);
    }
    let after = rule.next_after(now);
    let mut fires = Vec::with_capacity(ticks.len() + 1);
    // Ticks before the first one to make up are skipped in one step.
    if ticks.first() != Some(&first) {
        fires.push(Fire {
            name: entry.name.clone(),
            tick: first,
            what: Tick::Skip("the tick was missed because no scheduler was running".into()),
            next: ticks.first().copied().or(after),
        });
    }
    for (place, tick) in ticks.iter().enumerate() {
        let jitter = entry.jitter.as_millis() as u64;
        let wait = Duration::from_millis(if jitter > 0 {
            ambient::random::<u64>() % jitter.saturating_add(1)
        } else {
            0
        });
        let at = *tick + wait;
        let task = task_of(&entry.template, tick_id(&entry.name, *tick), now, at);
        fires.push(Fire {
            name: entry.name.clone(),
            tick: *tick,
            what: Tick::Enqueue(task, at),
            next: ticks.get(place + 1).copied().or(after),
        });
    }
    fires
}

/// The id of the task of a tick, such as `nightly@1767225600000`.
pub(super) fn tick_id(entry: &Name, tick: Timestamp) -> TaskId {
    TaskId::new(format!("{entry}@{}", tick.as_millis())).unwrap_or_else(|_| TaskId::generate())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        codec::{CodecName, MessagePack},
        task::Envelope,
    };

    const SECOND: u64 = 1_000;

    fn planned(missed: MissedTicks, next: u64, now: u64) -> Vec<(u64, bool, Option<u64>)> {
        let id = TaskId::new("e").expect("an id");
        let codec = CodecName::of::<MessagePack>();
        let entry = ScheduleEntry {
            name: "e".into(),
            rule: "@every 60s".into(),
            template: Envelope::new(id, "event", codec, Bytes::new()),
            next: Some(Timestamp::from_millis(next * 60 * SECOND)),
            paused: false,
            missed,
            jitter: Duration::ZERO,
            source: String::new(),
        };
        let rule = entry.rule.parse().expect("a rule");
        let fires = plan(&entry, &rule, Timestamp::from_millis(now * SECOND));
        let show = |fire: Fire| {
            let minute = |time: Timestamp| time.as_millis() / 60 / SECOND;
            let runs = matches!(fire.what, Tick::Enqueue(..));
            (minute(fire.tick), runs, fire.next.map(minute))
        };
        fires.into_iter().map(show).collect()
    }

    #[test]
    fn a_due_tick_is_fired_regardless_of_missed_ones() {
        for missed in [MissedTicks::Skip, MissedTicks::Once, MissedTicks::Last(3)] {
            assert_eq!(planned(missed, 10, 601), [(10, true, Some(11))]);
        }
    }

    #[test]
    fn missed_ticks_are_skipped_or_made_up() {
        let now = 20 * 60 + 30;
        assert_eq!(planned(MissedTicks::Skip, 10, now), [(10, false, Some(21))]);
        assert_eq!(
            planned(MissedTicks::Once, 10, now),
            [(10, false, Some(20)), (20, true, Some(21))]
        );
        assert_eq!(
            planned(MissedTicks::Last(3), 10, now),
            [
                (10, false, Some(18)),
                (18, true, Some(19)),
                (19, true, Some(20)),
                (20, true, Some(21))
            ]
        );
        assert_eq!(
            planned(MissedTicks::Last(100), 19, now),
            [(19, true, Some(20)), (20, true, Some(21))]
        );
        // The last one is on time, although those before it were missed.
        assert_eq!(
            planned(MissedTicks::Skip, 10, 1201),
            [(10, false, Some(20)), (20, true, Some(21))]
        );
    }
}
