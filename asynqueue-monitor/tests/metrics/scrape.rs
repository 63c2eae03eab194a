//! A parser for the Prometheus text format.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use asynqueue_monitor::metrics::Exporter;

/// The output of one scrape.
pub(crate) struct Scrape(String);

impl Scrape {
    pub(crate) async fn of(exporter: &Exporter) -> Self {
        Self(exporter.render().await)
    }

    /// The sum of the samples of a metric with all these labels, each as `key="value"`; `None` if there is none.
    pub(crate) fn value(&self, metric: &str, labels: &[&str]) -> Option<f64> {
        let samples = self.0.lines().filter(|line| {
            let name = line.split(['{', ' ']).next();
            name == Some(metric) && labels.iter().all(|label| line.contains(label))
        });
        let values = samples.map(|line| {
            let (_, value) = line.rsplit_once(' ').expect("a value");
            value.parse::<f64>().expect("a number")
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// The names of all metrics, without the suffixes of histograms.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        let types = self
            .0
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "));
        types
            .map(|line| line.split(' ').next().expect("a name").to_owned())
            .collect()
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Scrapes until a condition holds.
pub(crate) async fn until(
    exporter: &Exporter,
    what: &str,
    holds: impl Fn(&Scrape) -> bool,
) -> Scrape {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let scrape = Scrape::of(exporter).await;
        if holds(&scrape) {
            return scrape;
        }
        assert!(
            Instant::now() < deadline,
            "timed out waiting until {what}: {}",
            scrape.text()
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
