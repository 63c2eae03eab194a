//! Charts of what a Prometheus server has gathered, by queries that are fixed.

use std::{collections::BTreeMap, time::Duration};

use asynqueue_core::task::Timestamp;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::chart::Line;
use crate::ServeError;

/// How many points a line has.
const POINTS: u64 = 120;

/// How many lines a chart has at most: those with the highest sums.
const LINES: usize = 8;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A Prometheus server.
#[derive(Clone, Debug)]
pub(super) struct Prometheus {
    url: Url,
    /// The same for everyone to see: without the name and the password that may be in it.
    place: Url,
    client: Client,
}

/// What a chart shows.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// How its figures are written.
    pub(super) unit: Unit,
    query: &'static str,
    /// The label whose values are the names of the lines.
    label: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    Count,
    Rate,
    Seconds,
}

/// `$match` becomes what chooses a queue, `$window` a time that no scrape is longer than.
pub(super) const PANELS: [Panel; 4] = [
    Panel {
        title: "Outcomes a second",
        unit: Unit::Rate,
        query: "sum by (outcome) (rate(asynqueue_tasks_processed_total{$match}[$window]))",
        label: "outcome",
    },
    Panel {
        title: "Time that 95 of 100 attempts take at most, by event",
        unit: Unit::Seconds,
        query: "histogram_quantile(0.95, sum by (le, event) (rate(asynqueue_task_handling_seconds_bucket{$match}[$window])))",
        label: "event",
    },
    Panel {
        title: "Time that 95 of 100 attempts have waited at most, by queue",
        unit: Unit::Seconds,
        query: "histogram_quantile(0.95, sum by (le, queue) (rate(asynqueue_task_waiting_seconds_bucket{$match}[$window])))",
        label: "queue",
    },
    Panel {
        title: "Tasks by state",
        unit: Unit::Count,
        // Each process that exports them tells the same of a queue.
        query: "sum by (state) (max by (queue, state) (asynqueue_queue_size{$match}))",
        label: "state",
    },
];

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Prometheus {
    pub(super) fn at(url: &str) -> Result<Self, ServeError> {
        let refused = |reason: String| ServeError::Prometheus {
            url: match url.rsplit_once('@') {
                Some((_, place)) => format!("…@{place}"),
                None => url.to_owned(),
            },
            reason,
        };
        let address: Url = url.parse().map_err(|error| refused(format!("{error}")))?;
        if address.scheme() != "http" || address.cannot_be_a_base() {
            let reason = format!("its scheme is `{}`", address.scheme());
            return Err(refused(reason));
        }
        let mut place = address.clone();
        // Neither can fail for an address by `http`.
        let _ = place.set_username("");
        let _ = place.set_password(None);
        let client = Client::builder().timeout(TIMEOUT).build();
        Ok(Self {
            url: address,
            place,
            client: client.map_err(|error| refused(error.to_string()))?,
        })
    }

    /// The lines of a chart, over so many hours until now, of one queue or of all.
    ///
    /// # Errors
    ///
    /// What the server says against it, or that it does not answer.
    pub(super) async fn lines(
        &self,
        panel: &Panel,
        queue: Option<&str>,
        hours: u64,
        now: Timestamp,
    ) -> Result<Vec<Line>, String> {
        let (span, end) = (hours * 3_600, now.as_millis() / 1_000);
        let step = span / POINTS;
        let query = panel.query(queue, step);
        let start = end.saturating_sub(span);
        let answer = self.query_range(&query, start, end, step).await;
        let answer = answer.map_err(|error| {
            let why = error.without_url();
            format!("Prometheus at {} does not answer: {why}", self.place)
        })?;
        let refused = || answer.error.unwrap_or_else(|| "no data".into());
        let data = answer.data.ok_or_else(refused)?;
        let mut lines: Vec<_> = data
            .result
            .into_iter()
            .map(|series| series.line(panel.label, start as f64, span as f64))
            .collect();
        lines.sort_by(|a, b| b.sum().total_cmp(&a.sum()));
        lines.truncate(LINES);
        Ok(lines)
    }

    async fn query_range(
        &self,
        query: &str,
        start: u64,
        end: u64,
        step: u64,
    ) -> Result<Answer, reqwest::Error> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1", "query_range"]);
        }
        url.query_pairs_mut()
            .append_pair("query", query)
            .append_pair("start", &start.to_string())
            .append_pair("end", &end.to_string())
            .append_pair("step", &step.to_string());
        // An error is told in the same form.
        self.client.get(url).send().await?.json().await
    }
}

impl Panel {
    fn query(&self, queue: Option<&str>, step: u64) -> String {
        let matcher = queue.map_or(String::new(), |queue| {
            let name = queue.replace('\\', "\\\\").replace('"', "\\\"");
            format!("queue=\"{}\"", name.replace('\n', "\\n"))
        });
        let window = format!("{}s", step.max(300));
        self.query
            .replace("$match", &matcher)
            .replace("$window", &window)
    }
}

impl Series {
    fn line(self, label: &str, start: f64, span: f64) -> Line {
        let name = self.metric.get(label).cloned().unwrap_or_default();
        let point = |(at, value): (f64, String)| {
            let value: f64 = value.parse().ok()?;
            value.is_finite().then_some(((at - start) / span, value))
        };
        Line {
            name,
            points: self.values.into_iter().filter_map(point).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_a_queue_stays_inside_its_quotation_marks() {
        let query = PANELS[3].query(Some("a\"} or {\\"), 60);
        assert!(query.contains(r#"{queue="a\"} or {\\"}"#), "{query}");
    }

    #[test]
    fn an_address_that_cannot_be_used_is_named() {
        for url in ["prometheus:9090", "https://prometheus", "nowhere"] {
            let error = Prometheus::at(url).expect_err(url).to_string();
            assert!(error.contains(&format!("`{url}`")), "{error}");
        }
        let error = Prometheus::at("https://ada:hunter2@prometheus").expect_err("https");
        let error = error.to_string();
        assert!(error.contains("`…@prometheus`"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
