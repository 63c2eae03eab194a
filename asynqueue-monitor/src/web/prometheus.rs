//! Charts from a Prometheus server, with fixed queries.

use std::{collections::BTreeMap, time::Duration};

use asynqueue_core::task::Timestamp;
use reqwest::{Client, Url};
use serde::Deserialize;

use super::chart::Line;
use crate::ServeError;

/// The points of a line.
const POINTS: u64 = 120;

/// The maximum number of lines in a chart. The lines with the highest sums are kept.
const LINES: usize = 8;

const TIMEOUT: Duration = Duration::from_secs(5);

/// A Prometheus server.
#[derive(Clone, Debug)]
pub(super) struct Prometheus {
    url: Url,
    /// The URL without credentials, for error messages.
    public_url: Url,
    client: Client,
}

/// One chart.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// How its values are formatted.
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

/// `$match` is replaced by the matcher for a queue, `$window` by a range that is longer than the scrape interval.
pub(super) const PANELS: [Panel; 4] = [
    Panel {
        title: "Outcomes per second",
        unit: Unit::Rate,
        query: "sum by (outcome) (rate(asynqueue_tasks_processed_total{$match}[$window]))",
        label: "outcome",
    },
    Panel {
        title: "Attempt duration by event, 95th percentile",
        unit: Unit::Seconds,
        query: "histogram_quantile(0.95, sum by (le, event) (rate(asynqueue_task_handling_seconds_bucket{$match}[$window])))",
        label: "event",
    },
    Panel {
        title: "Waiting time by queue, 95th percentile",
        unit: Unit::Seconds,
        query: "histogram_quantile(0.95, sum by (le, queue) (rate(asynqueue_task_waiting_seconds_bucket{$match}[$window])))",
        label: "queue",
    },
    Panel {
        title: "Tasks by state",
        unit: Unit::Count,
        // Every process that exports queue statistics exports the same values.
        query: "sum by (state) (max by (queue, state) (asynqueue_queue_size{$match}))",
        label: "state",
    },
];

#[derive(Deserialize)]
struct QueryResponse {
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
        let invalid = |reason: String| ServeError::Prometheus {
            url: match url.rsplit_once('@') {
                Some((_, host)) => format!("…@{host}"),
                None => url.to_owned(),
            },
            reason,
        };
        let address: Url = url.parse().map_err(|error| invalid(format!("{error}")))?;
        if address.scheme() != "http" || address.cannot_be_a_base() {
            let reason = format!("the scheme is `{}`", address.scheme());
            return Err(invalid(reason));
        }
        let mut public_url = address.clone();
        // Neither fails for an `http` URL.
        let _ = public_url.set_username("");
        let _ = public_url.set_password(None);
        let client = Client::builder().timeout(TIMEOUT).build();
        Ok(Self {
            url: address,
            public_url,
            client: client.map_err(|error| invalid(error.to_string()))?,
        })
    }

    /// The lines of a chart over the last `span` of one queue or of all queues.
    ///
    /// # Errors
    ///
    /// The error of the server, or that it did not respond.
    pub(super) async fn lines(
        &self,
        panel: &Panel,
        queue: Option<&str>,
        span: Duration,
        now: Timestamp,
    ) -> Result<Vec<Line>, String> {
        let (span, end) = (span.as_secs(), now.as_millis() / 1_000);
        // A step that is shorter than the scrape interval has no values.
        let step = (span / POINTS).max(15);
        let query = panel.query(queue, step);
        let start = end.saturating_sub(span);
        let response = self.query_range(&query, start, end, step).await;
        let response = response.map_err(|error| {
            let why = error.without_url();
            format!("Prometheus at {} is not responding: {why}", self.public_url)
        })?;
        let failed = || response.error.unwrap_or_else(|| "no data".into());
        let data = response.data.ok_or_else(failed)?;
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
    ) -> Result<QueryResponse, reqwest::Error> {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1", "query_range"]);
        }
        url.query_pairs_mut()
            .append_pair("query", query)
            .append_pair("start", &start.to_string())
            .append_pair("end", &end.to_string())
            .append_pair("step", &step.to_string());
        // Errors have the same JSON format, so the status is not checked.
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
    fn queue_names_are_escaped_in_queries() {
        let query = PANELS[3].query(Some("a\"} or {\\"), 60);
        assert!(query.contains(r#"{queue="a\"} or {\\"}"#), "{query}");
    }

    #[test]
    fn an_invalid_url_is_named_without_its_credentials() {
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
