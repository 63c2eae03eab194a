//! Archives that lose tasks, or are about to.

use std::time::Duration;

use asynqueue_core::{
    broker::ArchiveStats,
    inspector::QueueInfo,
    task::{TaskState, Timestamp},
};

use super::{Concern, Figures, SPAN};
use crate::web::show;

/// How long a trimmed archive is reported. Deleted tasks do not come back, so this is longer than for other problems.
const TRIMMED_RECENTLY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn add(figures: &Figures<'_>, all: &mut Vec<Concern>) {
    for queue in figures.queues {
        all.extend(trimmed(queue, figures.now));
        all.extend(nearly_full(queue));
    }
}

fn trimmed(queue: &QueueInfo, now: Timestamp) -> Option<Concern> {
    let archive = queue.stats.archive;
    let age = now.since(archive.last_trimmed?);
    if age >= TRIMMED_RECENTLY {
        return None;
    }
    let text = trimmed_text(&archive, now);
    let concern = Concern::of_queue("trimmed_archive", &queue.name, TaskState::Archived, text);
    // The numbers are totals since the queue exists. What a limit deletes by age was kept for long.
    let recently = archive
        .trimmed_by_count
        .min(archive.max.unwrap_or(u64::MAX));
    let weight = match age < SPAN {
        true => recently / 2,
        false => recently / 20,
    };
    Some(concern.weighing(archive.trimmed(), weight + 1))
}

fn nearly_full(queue: &QueueInfo) -> Option<Concern> {
    let max = queue.stats.archive.max?;
    let archived = queue.stats.count(TaskState::Archived);
    let text = format!(
        "the archive holds {} of at most {} tasks. Beyond this limit, the oldest are deleted.",
        show::number(archived),
        show::number(max)
    );
    let concern = Concern::of_queue("full_archive", &queue.name, TaskState::Archived, text);
    let is_nearly_full = queue.stats.is_archive_nearly_full();
    is_nearly_full.then(|| concern.weighing(archived, archived / 20))
}

fn trimmed_text(archive: &ArchiveStats, now: Timestamp) -> String {
    let (by_count, by_age) = (archive.trimmed_by_count, archive.trimmed_by_age);
    let max = archive
        .max
        .map_or(String::new(), |max| format!(" of {}", show::number(max)));
    let reasons = [
        (by_count, format!("over the limit{max}")),
        (by_age, "over the age limit".to_owned()),
    ];
    let reasons = reasons.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<_> = reasons
        .map(|(count, why)| format!("{} {why}", show::number(*count)))
        .collect();
    let last = archive
        .last_trimmed
        .map_or(String::new(), |last| show::distance(last, now));
    format!(
        "archived tasks were deleted: {}. Last deletion: {last}.",
        reasons.join(" and ")
    )
}
