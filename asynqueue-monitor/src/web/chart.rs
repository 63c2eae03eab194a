//! Charts over time, as SVG without inline scripts or styles, which the content security policy forbids.

use asynqueue_core::statistics::Histogram;
use maud::{Markup, html};

use super::show;

/// The attempts that ended in one interval.
#[derive(Clone, Debug, Default)]
pub(super) struct Bar {
    /// The start of the interval.
    pub(super) label: String,
    pub(super) succeeded: u64,
    pub(super) failed: u64,
}

/// The height of a chart, in units of its view box.
const HEIGHT: f64 = 100.0;
/// The width of a bar and its gap.
const STEP: usize = 10;

/// An event to mark in a chart, such as a deployment: its position between the start of the chart, 0, and its end, 1.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) text: String,
}

/// The number of marks that the text below a chart lists, the latest ones. An hour may have 50 deployments.
const MARKED: usize = 5;

/// A chart of attempts with an equivalent table. `each` is the time that one bar covers.
pub(super) fn attempts(title: &str, each: &str, bars: &[Bar], marks: &[Mark]) -> Markup {
    let most = bars.iter().map(|bar| bar.succeeded + bar.failed).max();
    let most = most.unwrap_or_default();
    let succeeded = bars.iter().map(|bar| bar.succeeded).sum();
    let failed = bars.iter().map(|bar| bar.failed).sum();
    let about = format!(
        "{title}: {} succeeded, {} failed",
        show::number(succeeded),
        show::number(failed)
    );
    let height = |count: u64| count as f64 / most.max(1) as f64 * HEIGHT;
    let width = bars.len().max(1) * STEP;
    let labels: Vec<_> = bars.iter().map(|bar| &*bar.label).collect();
    let content = html! {
        @for (place, bar) in bars.iter().enumerate() {
            @let (good, bad) = (height(bar.succeeded), height(bar.failed));
            g {
                title { (words(bar)) }
                // The full height, so that the tooltip of a low bar is easy to reach.
                rect.none x=(place * STEP) y="0" width=(STEP) height=(HEIGHT) {}
                @if bar.succeeded > 0 { rect.good x=(place * STEP + 1) y=(format!("{:.1}", HEIGHT - good)) width=(STEP - 2) height=(format!("{good:.1}")) {} }
                @if bar.failed > 0 { rect.bad x=(place * STEP + 1) y=(format!("{:.1}", HEIGHT - good - bad)) width=(STEP - 2) height=(format!("{bad:.1}")) {} }
            }
        }
    };
    html! {
        figure.chart {
            figcaption { (about) ". Peak: " (show::number(most)) " per " (each) "." }
            (plot(&about, width, &show::number(most), &labels, marks, &content))
            @if most > 0 {
                details {
                    summary { "Show as table" }
                    div.scroll { table {
                        thead { tr { th scope="col" { "Time" } th.number scope="col" { "Succeeded" } th.number scope="col" { "Failed" } } }
                        tbody { @for bar in bars.iter().filter(|bar| bar.succeeded + bar.failed > 0) {
                            tr { th scope="row" { (bar.label) } td.number { (show::number(bar.succeeded)) } td.number { (show::number(bar.failed)) } }
                        } }
                    } }
                }
            }
        }
    }
}

/// A chart of counts in a line of text. Each has a label, such as an hour.
pub(super) fn sparkline(counts: impl Iterator<Item = (String, u64)>) -> Markup {
    let counts: Vec<_> = counts.collect();
    let most = counts.iter().max_by_key(|(_, count)| *count);
    let about = most.map_or(String::new(), |(label, count)| {
        format!("Peak: {} at {label}", show::number(*count))
    });
    let most = most.map_or(1, |(_, count)| *count).max(1);
    let width = counts.len().max(1) * STEP;
    html! {
        svg.spark viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(about) {
            @for (place, (label, count)) in counts.iter().enumerate() {
                @let height = *count as f64 / most as f64 * HEIGHT;
                // A single failure must be visible beside an hour with thousands.
                @let height = if *count > 0 { height.max(8.0) } else { 0.0 };
                g {
                    title { (label) ": " (show::number(*count)) }
                    rect.none x=(place * STEP) y="0" width=(STEP) height=(HEIGHT) {}
                    @if *count > 0 { rect.bad x=(place * STEP + 1) y=(format!("{:.1}", HEIGHT - height)) width=(STEP - 2) height=(format!("{height:.1}")) {} }
                }
            }
        }
    }
}

fn words(bar: &Bar) -> String {
    format!(
        "{}: {} succeeded, {} failed",
        bar.label,
        show::number(bar.succeeded),
        show::number(bar.failed)
    )
}

/// The content of a chart with its axes and marks. `top` is the value at the top of the vertical axis, which starts at 0.
fn plot(
    about: &str,
    width: usize,
    top: &str,
    labels: &[&str],
    marks: &[Mark],
    content: &Markup,
) -> Markup {
    html! {
        div.plot {
            div.scale aria-hidden="true" { span { (top) } span { "0" } }
            svg viewBox=(format!("0 0 {width} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(about) {
                (content)
                @for mark in marks {
                    @let x = format!("{:.1}", mark.at * width as f64);
                    g.mark {
                        title { (mark.text) }
                        line x1=(x) x2=(x) y1="0" y2=(HEIGHT) vector-effect="non-scaling-stroke" {}
                    }
                }
            }
            div.axis aria-hidden="true" { @for label in ticks(labels) { span { (label) } } }
        }
        @if !marks.is_empty() {
            @let earlier = marks.len().saturating_sub(MARKED);
            p.note {
                "Marked: "
                @if earlier > 0 { (show::number(earlier as u64)) " earlier, " }
                @for (place, mark) in marks[earlier..].iter().enumerate() { @if place > 0 { ", " } (mark.text) }
                "."
            }
        }
    }
}

/// The labels below a chart: the first, the last and those between that have room.
fn ticks<'a>(labels: &[&'a str]) -> Vec<&'a str> {
    const MOST: usize = 5;
    let Some(last) = labels.len().checked_sub(1) else {
        return Vec::new();
    };
    let count = MOST.min(labels.len());
    let place = |tick: usize| tick * last / (count - 1).max(1);
    (0..count).map(|tick| labels[place(tick)]).collect()
}

/// How often each time was measured.
pub(super) fn times(title: &str, times: &Histogram) -> Markup {
    let buckets: Vec<_> = times.buckets().collect();
    let most = buckets.iter().map(|(.., count)| *count).max();
    let most = most.unwrap_or_default();
    let range = |from, to| format!("{} to {}", show::time(from), show::time(to));
    let labels: Vec<_> = buckets.iter().map(|(from, ..)| show::time(*from)).collect();
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    let content = html! {
        @for (place, (from, to, count)) in buckets.iter().enumerate() {
            @let height = *count as f64 / most.max(1) as f64 * HEIGHT;
            g {
                title { (range(*from, *to)) ": " (show::number(*count)) }
                rect.none x=(place * STEP) y="0" width=(STEP) height=(HEIGHT) {}
                rect.good x=(place * STEP + 1) y=(format!("{:.1}", HEIGHT - height)) width=(STEP - 2) height=(format!("{height:.1}")) {}
            }
        }
    };
    html! {
        figure.chart {
            figcaption { (title) @if buckets.is_empty() { ": no attempts." } @else { ": " (show::number(times.count())) " attempts." } }
            @if !buckets.is_empty() {
                (plot(title, buckets.len() * STEP, &show::number(most), &labels, &[], &content))
                details {
                    summary { "Show as table" }
                    div.scroll { table {
                        thead { tr { th scope="col" { "Time" } th.number scope="col" { "Attempts" } } }
                        tbody { @for (from, to, count) in &buckets {
                            tr { th scope="row" { (range(*from, *to)) } td.number { (show::number(*count)) } }
                        } }
                    } }
                }
            }
        }
    }
}

/// One line of a chart.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// Positions between the start of the chart, 0, and its end, 1, with their values.
    pub(super) points: Vec<(f64, f64)>,
}

impl Line {
    #[cfg(feature = "prometheus")]
    pub(super) fn sum(&self) -> f64 {
        self.points.iter().map(|(_, value)| value).sum()
    }
}

/// A line chart. `labels` are the times of its start, its end and steps of equal length between them. Its legend shows
/// the last value of each line.
pub(super) fn lines(
    title: &str,
    write: impl Fn(f64) -> String,
    lines: &[Line],
    labels: &[String],
    marks: &[Mark],
) -> Markup {
    const WIDTH: usize = 1_200;
    let points = lines.iter().flat_map(|line| &line.points);
    let most = points.map(|(_, value)| *value).fold(0.0, f64::max);
    let place = |(at, value): &(f64, f64)| {
        let height = if most > 0.0 {
            value / most * HEIGHT
        } else {
            0.0
        };
        format!("{:.0},{:.1}", at * WIDTH as f64, HEIGHT - height)
    };
    let step = 1.0 / labels.len().max(1) as f64;
    let values = |number: usize, label: &str| {
        let from = number as f64 * step;
        let within = |(at, _): &&(f64, f64)| (from..from + step).contains(at);
        let values = lines.iter().filter_map(|line| {
            let (_, value) = line.points.iter().rev().find(within)?;
            Some(format!("{} {}", line.name, write(*value)))
        });
        format!("{label}: {}", values.collect::<Vec<_>>().join(", "))
    };
    let content = html! {
        @for (number, line) in lines.iter().enumerate() {
            @for run in runs(&line.points, step) {
                @let points: Vec<_> = run.iter().map(place).collect();
                polyline class=(format!("line-{number}")) points=(points.join(" ")) vector-effect="non-scaling-stroke" { title { (line.name) } }
            }
        }
        @for (number, label) in labels.iter().enumerate() {
            g {
                title { (values(number, label)) }
                rect.none x=(format!("{:.1}", number as f64 * step * WIDTH as f64)) y="0" width=(format!("{:.1}", step * WIDTH as f64)) height=(HEIGHT) {}
            }
        }
    };
    let shown: Vec<_> = labels.iter().map(String::as_str).collect();
    html! {
        figure.chart {
            figcaption { (title) @if lines.iter().all(|line| line.points.is_empty()) { ": no data." } @else { ". Peak: " (write(most)) "." } }
            (plot(title, WIDTH, &write(most), &shown, marks, &content))
            ul.legend {
                @for (number, line) in lines.iter().enumerate() {
                    @if let Some((_, last)) = line.points.last() {
                        li { span class=(format!("line-{number}")) aria-hidden="true" { "●" } " " (line.name) ", last: " (write(*last)) }
                    }
                }
            }
        }
    }
}

/// The parts of a line between its gaps. A point between two gaps is as wide as a step.
fn runs(points: &[(f64, f64)], step: f64) -> Vec<Vec<(f64, f64)>> {
    let together = |(a, _): &(f64, f64), (b, _): &(f64, f64)| b - a < step * 1.5;
    let runs = points.chunk_by(together);
    runs.map(|run| match run {
        [(at, value)] => vec![(at - step / 2.0, *value), (at + step / 2.0, *value)],
        run => run.to_vec(),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bar_fills_the_chart_and_failures_stack_on_successes() {
        let bar = |succeeded, failed| Bar {
            label: "<noon>".into(),
            succeeded,
            failed,
        };
        let chart = attempts("Today", "hour", &[bar(3, 1), bar(0, 2)], &[]).into_string();
        assert!(chart.contains(r#"class="good" x="1" y="25.0" width="8" height="75.0""#));
        assert!(chart.contains(r#"class="bad" x="1" y="0.0" width="8" height="25.0""#));
        assert!(chart.contains(r#"class="bad" x="11" y="50.0" width="8" height="50.0""#));
        assert!(chart.contains("Today: 3 succeeded, 3 failed"));
        assert!(!chart.contains("<noon>"));
    }

    #[test]
    fn a_sparkline_shows_a_single_failure_beside_thousands() {
        let counts = [
            ("13:00".to_owned(), 5_000),
            ("14:00".to_owned(), 1),
            ("15:00".to_owned(), 0),
        ];
        let chart = sparkline(counts.into_iter()).into_string();
        assert!(chart.contains("Peak: 5\u{202f}000 at 13:00"), "{chart}");
        assert!(chart.contains(r#"class="bad" x="11" y="92.0" width="8" height="8.0""#));
        assert_eq!(chart.matches("bad").count(), 2);
        assert!(!sparkline(std::iter::empty()).into_string().contains("NaN"));
    }

    #[test]
    fn an_empty_chart_is_valid() {
        let chart = attempts("Today", "hour", &[], &[]).into_string();
        assert!(chart.contains("0 succeeded") && !chart.contains("NaN"));
    }

    #[test]
    fn ticks_include_the_first_and_the_last_label() {
        let labels: Vec<_> = (0..60).map(|n| n.to_string()).collect();
        let labels: Vec<_> = labels.iter().map(String::as_str).collect();
        assert_eq!(ticks(&labels), ["0", "14", "29", "44", "59"]);
        assert_eq!(ticks(&labels[..2]), ["0", "1"]);
        assert_eq!(ticks(&labels[..1]), ["0"]);
        assert_eq!(ticks(&[]), [""; 0]);
    }

    #[test]
    fn a_line_has_gaps_where_there_is_no_value() {
        let points = [(0.1, 1.0), (0.2, 2.0), (0.6, 3.0)];
        let found = runs(&points, 0.1);
        assert_eq!(found[0], points[..2]);
        assert_eq!(found[1].len(), 2, "{found:?}");
        assert_eq!(runs(&[], 0.1), Vec::<Vec<_>>::new());
    }

    #[test]
    fn each_step_of_a_line_chart_shows_its_values() {
        let line = Line {
            name: "p50".into(),
            points: vec![(0.1, 2.0), (0.6, 4.0)],
        };
        let marks = [Mark {
            at: 0.5,
            text: "1.2.3 at noon".into(),
        }];
        let labels = ["11:00".to_owned(), "12:00".to_owned()];
        let write = |value: f64| format!("{value:.0}s");
        let chart = lines("Running", write, &[line], &labels, &marks).into_string();
        assert!(chart.contains("<title>11:00: p50 2s</title>"), "{chart}");
        assert!(chart.contains("<title>12:00: p50 4s</title>"), "{chart}");
        assert!(chart.contains(r#"x1="600.0""#) && chart.contains("1.2.3 at noon"));
    }

    /// Otherwise a day of deployments would move everything below the chart out of sight.
    #[test]
    fn the_latest_marks_are_listed_and_each_is_in_the_chart() {
        let mark = |count: u64| Mark {
            at: 0.5,
            text: format!("1.{count} deployed"),
        };
        let chart = |count| {
            let marks: Vec<_> = (1..=count).map(mark).collect();
            attempts("Attempts", "hour", &[Bar::default()], &marks).into_string()
        };
        assert!(chart(2).contains("Marked: 1.1 deployed, 1.2 deployed."));
        let many = chart(50);
        let listed = "Marked: 45 earlier, 1.46 deployed, 1.47 deployed, 1.48 deployed, 1.49 deployed, 1.50 deployed.";
        assert!(many.contains(listed), "{many}");
        assert_eq!(many.matches("<title>1.").count(), 50);
    }
}
