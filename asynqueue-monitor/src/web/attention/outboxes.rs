//! Outboxes whose entries do not become tasks.

use std::time::Duration;

use asynqueue_core::{broker::OutboxInfo, task::Timestamp};

use super::{Concern, Figures, Place};
use crate::web::show;

/// The age above which the oldest entry waits for too long.
const SLOW: Duration = Duration::from_secs(300);

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    for outbox in figures.outboxes {
        if let Some((text, weight)) = problem(outbox, figures.now) {
            all.push(Concern {
                kind: "stuck_outbox",
                about: outbox.name.to_string(),
                weight,
                count: outbox.failed,
                queue: None,
                cause: None,
                place: Place::Outboxes,
                covers: Vec::new(),
                text: format!("Outbox {}: {text}", outbox.name),
            });
        }
    }
}

/// The problem of an outbox, and its weight.
fn problem(outbox: &OutboxInfo, now: Timestamp) -> Option<(String, u64)> {
    let all = outbox.failed + outbox.waiting;
    let age = Duration::from_millis(outbox.age);
    Some(if outbox.is_lost(now) {
        let last = show::distance(outbox.seen, now);
        (
            format!("no relay moves its tasks. Last report: {last}."),
            all + 1,
        )
    } else if age > SLOW {
        let age = show::duration(age);
        (format!("the oldest entry has been waiting for {age}."), all)
    } else {
        let text = match outbox.failed {
            0 => return None,
            1 => "1 entry has failed.".to_owned(),
            failed => format!("{} entries have failed.", show::number(failed)),
        };
        (text, outbox.failed)
    })
}
