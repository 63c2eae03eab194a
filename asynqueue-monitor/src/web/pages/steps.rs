//! The steps of a chart over a span of time.

use std::time::Duration;

use asynqueue_core::{
    inspector::Course,
    statistics::{EventStats, Span},
    task::Timestamp,
};

use crate::web::{
    chart::{Bar, Line},
    request::View,
};

/// The starts of the steps, of which the last one includes the current time.
pub(super) struct Steps {
    pub(super) each: &'static str,
    length: u64,
    starts: Vec<u64>,
}

/// The name of a span for people.
pub(super) fn title(span: Span) -> &'static str {
    match span {
        Span::QuarterHour => "15 minutes",
        Span::Hour => "hour",
        Span::SixHours => "6 hours",
        Span::Day => "24 hours",
        Span::Week => "7 days",
        _ => "90 days",
    }
}

impl Steps {
    pub(super) fn of(span: Span, now: Timestamp) -> Self {
        let (each, minutes) = match span {
            Span::QuarterHour | Span::Hour => ("minute", 1),
            Span::SixHours => ("5 minutes", 5),
            Span::Day => ("hour", 60),
            Span::Week => ("4 hours", 4 * 60),
            _ => ("day (UTC)", 24 * 60),
        };
        let length = minutes * 60_000;
        let count = (span.length().as_millis() as u64).div_ceil(length);
        let last = now.as_millis() / length * length;
        let starts = (0..count).rev().map(|n| last.saturating_sub(n * length));
        Self {
            each,
            length,
            starts: starts.collect(),
        }
    }

    /// The start of the first step.
    pub(super) fn since(&self) -> Timestamp {
        Timestamp::from_millis(self.starts.first().copied().unwrap_or_default())
    }

    /// Each step with what happened in it.
    fn filled<'c>(
        &self,
        course: impl IntoIterator<Item = &'c (Timestamp, EventStats)>,
    ) -> Vec<EventStats> {
        let mut steps = vec![EventStats::default(); self.starts.len()];
        for (at, stats) in course {
            let place = self
                .starts
                .partition_point(|start| *start <= at.as_millis());
            if let Some(step) = place.checked_sub(1).and_then(|place| steps.get_mut(place)) {
                step.merge(stats);
            }
        }
        steps
    }

    pub(super) fn labels(&self, view: &View) -> Vec<String> {
        let form = match self.length {
            ..3_600_000 => "%H:%M",
            3_600_000..86_400_000 => "%Y-%m-%d %H:%M",
            _ => "%Y-%m-%d",
        };
        let label = |start: &u64| {
            let time = Timestamp::from_millis(*start);
            // The days of statistics are those of UTC.
            let zone = match self.length {
                86_400_000 => chrono_tz::Tz::UTC,
                _ => view.settings.zone,
            };
            let date = view.settings.date(time);
            date.map(|date| date.with_timezone(&zone).format(form).to_string())
        };
        let labels = self.starts.iter().map(label);
        labels.map(Option::unwrap_or_default).collect()
    }

    pub(super) fn bars<'c>(
        &self,
        view: &View,
        course: impl IntoIterator<Item = &'c (Timestamp, EventStats)>,
    ) -> Vec<Bar> {
        let labels = self.labels(view).into_iter();
        let steps = labels.zip(self.filled(course));
        let bar = |(label, stats): (String, EventStats)| Bar {
            label,
            succeeded: stats.succeeded,
            failed: stats.failed,
        };
        steps.map(bar).collect()
    }

    /// Percentiles of times, in seconds. Steps without a time are left out.
    pub(super) fn percentiles(
        &self,
        course: &Course,
        of: impl Fn(&EventStats, f64) -> Option<Duration>,
    ) -> Vec<Line> {
        let steps = self.filled(course);
        let line = |(name, share): (&str, f64)| {
            let points = steps.iter().enumerate().filter_map(|(place, stats)| {
                let at = (place as f64 + 0.5) / steps.len() as f64;
                Some((at, of(stats, share)?.as_secs_f64()))
            });
            Line {
                name: name.to_owned(),
                points: points.collect(),
            }
        };
        [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)]
            .map(line)
            .into()
    }

    /// The position of a time in the chart, between 0 and 1. `None` if it is outside.
    pub(super) fn place(&self, time: Timestamp) -> Option<f64> {
        let first = *self.starts.first()?;
        let total = self.length * self.starts.len() as u64;
        let since = time.as_millis().checked_sub(first)?;
        (since < total).then(|| since as f64 / total as f64)
    }
}
