//! Charts over time, as SVG without inline scripts or styles, which the content security policy forbids.

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

/// A chart of attempts with an equivalent table. `each` is the time that one bar covers.
pub(super) fn attempts(title: &str, each: &str, bars: &[Bar]) -> Markup {
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
    html! {
        figure.chart {
            figcaption { (about) ". Peak: " (show::number(most)) " per " (each) "." }
            svg viewBox=(format!("0 0 {} {HEIGHT}", bars.len().max(1) * STEP)) preserveAspectRatio="none" role="img" aria-label=(about) {
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
            }
            @if let (Some(first), Some(last)) = (bars.first(), bars.last()) {
                div.axis aria-hidden="true" { span { (first.label) } span { (last.label) } }
            }
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

fn words(bar: &Bar) -> String {
    format!(
        "{}: {} succeeded, {} failed",
        bar.label,
        show::number(bar.succeeded),
        show::number(bar.failed)
    )
}

/// One line of a chart.
#[cfg(feature = "prometheus")]
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// Positions between the start of the chart, 0, and its end, 1, with their values.
    pub(super) points: Vec<(f64, f64)>,
}

#[cfg(feature = "prometheus")]
impl Line {
    pub(super) fn sum(&self) -> f64 {
        self.points.iter().map(|(_, value)| value).sum()
    }
}

/// A line chart. Its legend shows the last value of each line.
#[cfg(feature = "prometheus")]
pub(super) fn lines(title: &str, write: impl Fn(f64) -> String, lines: &[Line]) -> Markup {
    const WIDTH: f64 = 1_200.0;
    let points = lines.iter().flat_map(|line| &line.points);
    let most = points.map(|(_, value)| *value).fold(0.0, f64::max);
    let place = |(at, value): &(f64, f64)| {
        let height = if most > 0.0 {
            value / most * HEIGHT
        } else {
            0.0
        };
        format!("{:.0},{:.1}", at * WIDTH, HEIGHT - height)
    };
    html! {
        figure.chart {
            figcaption { (title) @if lines.is_empty() { ": no data." } @else { ". Peak: " (write(most)) "." } }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(title) {
                @for (number, line) in lines.iter().enumerate() {
                    @let points: Vec<_> = line.points.iter().map(place).collect();
                    polyline class=(format!("line-{number}")) points=(points.join(" ")) vector-effect="non-scaling-stroke" { title { (line.name) } }
                }
            }
            ul.legend {
                @for (number, line) in lines.iter().enumerate() {
                    @if let Some((_, last)) = line.points.last() {
                        li { span class=(format!("line-{number}")) aria-hidden="true" { "●" } " " (line.name) ": " (write(*last)) }
                    }
                }
            }
        }
    }
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
        let chart = attempts("Today", "hour", &[bar(3, 1), bar(0, 2)]).into_string();
        assert!(chart.contains(r#"class="good" x="1" y="25.0" width="8" height="75.0""#));
        assert!(chart.contains(r#"class="bad" x="1" y="0.0" width="8" height="25.0""#));
        assert!(chart.contains(r#"class="bad" x="11" y="50.0" width="8" height="50.0""#));
        assert!(chart.contains("Today: 3 succeeded, 3 failed"));
        assert!(!chart.contains("<noon>"));
    }

    #[test]
    fn an_empty_chart_is_valid() {
        let chart = attempts("Today", "hour", &[]).into_string();
        assert!(chart.contains("0 succeeded") && !chart.contains("NaN"));
    }
}
