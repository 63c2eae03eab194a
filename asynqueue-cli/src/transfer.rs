//! `asynqueue move`: moves everything from one broker to another.

use std::{
    fmt::Write as _,
    io::{IsTerminal, stderr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use asynqueue::{
    broker::SharedBroker,
    layer::BoxError,
    transfer::{Report, Survey, Transfer},
};
use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// The settings of a move.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// URL of the broker to move from, such as `redis://localhost`. Set one with a password in the environment: other
    /// users of the machine can read arguments.
    #[arg(
        long,
        env = "ASYNQUEUE_MOVE_FROM",
        hide_env_values = true,
        value_name = "URL"
    )]
    from: String,
    /// URL of the broker to move to.
    #[arg(
        long,
        env = "ASYNQUEUE_MOVE_TO",
        hide_env_values = true,
        value_name = "URL"
    )]
    to: String,
    /// Move only this queue, and the schedule entries whose tasks go to it. May be repeated. Default: everything.
    #[arg(long = "queue", value_name = "NAME")]
    queues: Vec<String>,
    /// How long to wait for a server to reclaim a task whose lease has expired, and for a scheduler to fire a due entry.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    patience: u32,
    /// Print what there is to move, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

/// How often progress is printed where there is no terminal.
const LINES: Duration = Duration::from_secs(5);

/// How many of the things that are left are listed.
const LISTED: usize = 20;

/// Moves, and prints what was moved.
pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    if options.from == options.to {
        return Err("`--from` and `--to` are the same URL: expected two different brokers".into());
    }
    let (from, to) = (connect(&options.from).await?, connect(&options.to).await?);
    if !to.capabilities().is_shared {
        let problem = "`--to` names a broker in the memory of this process: its tasks would be lost when the move ends";
        return Err(problem.into());
    }
    let mut transfer = Transfer::new(from, to);
    if !options.queues.is_empty() {
        transfer = transfer.queues(options.queues.iter().map(String::as_str));
    }
    transfer = transfer.patience(Duration::from_secs(options.patience.into()));
    let survey = transfer.survey().await?;
    if options.dry_run {
        print!("{}", found(&survey));
        return Ok(());
    }
    let progress = Arc::new(Progress::new(survey.tasks()));
    let shown = Arc::clone(&progress);
    let moved = transfer
        .on_moved(move |_, count| shown.add(count))
        .run()
        .await;
    progress.end();
    let report =
        moved.map_err(|error| format!("{error}. Start the same move again to resume it"))?;
    print!("{}", summary(&report));
    match left(&report) {
        None => Ok(()),
        Some(left) => Err(left.into()),
    }
}

async fn connect(url: &str) -> Result<SharedBroker, BoxError> {
    Ok(asynqueue::connect(url).await?)
}

/// A bar on a terminal, and a line from time to time elsewhere.
enum Progress {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
}

struct Lines {
    moved: u64,
    total: u64,
    next: Instant,
}

impl Progress {
    fn new(total: u64) -> Self {
        if stderr().is_terminal() {
            let bar = ProgressBar::new(total);
            let template = "{bar:30} {human_pos}/{human_len} tasks, {per_sec}, {eta} left";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            return Self::Bar(bar);
        }
        Self::Lines(Mutex::new(Lines {
            moved: 0,
            total,
            next: Instant::now() + LINES,
        }))
    }

    fn add(&self, count: u64) {
        match self {
            Self::Bar(bar) => {
                bar.inc(count);
                // Tasks that arrive during the move.
                bar.set_length(bar.length().unwrap_or(0).max(bar.position()));
            }
            Self::Lines(lines) => {
                let Ok(mut lines) = lines.lock() else { return };
                lines.moved += count;
                if lines.next <= Instant::now() {
                    lines.next = Instant::now() + LINES;
                    let total = lines.total.max(lines.moved);
                    eprintln!("moved {} of {total} tasks", lines.moved);
                }
            }
        }
    }

    fn end(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// What there is to move.
fn found(survey: &Survey) -> String {
    let mut text = table(
        "to move",
        survey.queues.iter().map(|(name, n)| (&**name, *n)),
    );
    let (active, schedules) = (survey.active, survey.schedules);
    let _ = writeln!(text, "\nactive tasks to wait for: {active}");
    let _ = writeln!(text, "schedule entries: {schedules}");
    let _ = writeln!(text, "subscribers: {}", survey.subscribers);
    text
}

/// What was moved.
fn summary(report: &Report) -> String {
    let mut text = table("moved", report.queues.iter().map(|(name, n)| (&**name, *n)));
    let _ = writeln!(text, "\nschedule entries: {}", report.schedules);
    let _ = writeln!(text, "new subscribers: {}", report.subscribers);
    text
}

/// The number of tasks of each queue.
fn table<'a>(title: &str, queues: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut rows: Vec<(&str, u64)> = queues.collect();
    rows.push(("total", rows.iter().map(|(_, count)| count).sum()));
    let count = |count: u64| HumanCount(count).to_string();
    let names = rows.iter().map(|(name, _)| name.chars().count());
    let numbers = rows.iter().map(|(_, n)| count(*n).len());
    let (name_width, width) = (
        names.max().unwrap_or(0).max("queue".len()),
        numbers.max().unwrap_or(0).max(title.len()),
    );
    let mut text = format!("{:name_width$}  {title:>width$}\n", "queue");
    for (name, number) in rows {
        let _ = writeln!(text, "{name:name_width$}  {:>width$}", count(number));
    }
    text
}

/// What is still at the source. `None` if nothing is.
fn left(report: &Report) -> Option<String> {
    let count = report.left.len();
    let things = match count {
        0 => return None,
        1 => "1 item is left at the source".to_owned(),
        count => format!("{count} items are left at the source"),
    };
    let mut text = format!("{things}: follow these lines, and start the same move again");
    for left in report.left.iter().take(LISTED) {
        let _ = write!(text, "\n  {left}");
    }
    if count > LISTED {
        let _ = write!(text, "\n  and {} more", count - LISTED);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_queues_are_in_a_column() {
        let text = table("moved", [("default", 1_234_567), ("mail", 3)].into_iter());
        let expected = "queue        moved\n\
                        default  1,234,567\n\
                        mail             3\n\
                        total    1,234,570\n";
        assert_eq!(text, expected);
    }
}
