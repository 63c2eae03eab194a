//! The table of a run, in Markdown.

use std::fmt::Write;

use super::{
    check::{Checker, Promise},
    history::History,
    settings::Settings,
    stage::Stage,
};

/// How many examples of a violated guarantee are shown.
const EXAMPLES: usize = 5;

/// The run's figures and guarantees, with examples of violations.
pub(crate) fn table(
    settings: &Settings,
    stage: &dyn Stage,
    history: &History,
    checker: &Checker<'_>,
) -> String {
    let figures = &checker.figures;
    let faults: Vec<_> = history
        .faults
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    let mut text = String::new();
    let mut row = |what: &str, value: String| {
        let _ = writeln!(text, "| {what} | {value} |");
    };
    row(
        &format!("{} s, {}", settings.time.as_secs(), stage.title()),
        format!("seed {}", settings.seed),
    );
    row("---", "---".into());
    row("faults", faults.join(", "));
    for (what, value) in stage.figures() {
        row(&what, value);
    }
    row("tasks accepted", figures.accepted.to_string());
    row(
        "calls without a response (of which were accepted)",
        format!("{} ({})", figures.unsure, figures.unsure_accepted),
    );
    row("refused by a unique key", figures.refused.to_string());
    row("runs", figures.runs.to_string());
    row(
        "completed, archived, deleted",
        format!(
            "{}, {}, {}",
            figures.completed, figures.archived, figures.deleted
        ),
    );
    row(
        "aggregates, ticks",
        format!("{}, {}", figures.aggregates, figures.ticks),
    );
    row(
        "leases lost, overlaps caused by that",
        format!("{}, {}", figures.lost_leases, figures.overlaps),
    );
    for (promise, name) in Promise::ALL {
        let broken = checker
            .broken
            .iter()
            .filter(|broken| broken.promise == promise);
        row(&format!("**{name}**"), format!("**{}**", broken.count()));
    }
    text
}

/// The violated guarantees, with examples.
pub(crate) fn broken(checker: &Checker<'_>) -> String {
    let mut text = String::new();
    for (promise, name) in Promise::ALL {
        let broken = checker
            .broken
            .iter()
            .filter(|broken| broken.promise == promise);
        let broken: Vec<_> = broken.map(|broken| &broken.what).collect();
        if !broken.is_empty() {
            let _ = writeln!(text, "{} {name}:", broken.len());
        }
        for what in broken.iter().take(EXAMPLES) {
            let _ = writeln!(text, "  {what}");
        }
    }
    text
}
