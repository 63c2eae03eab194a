//! A Prometheus server.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, free_port};

/// A separate `prometheus`, which scrapes each second.
#[derive(Debug)]
pub struct Prometheus {
    dir: TempDir,
    url: String,
    process: Process,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `/metrics` at addresses such as `127.0.0.1:9464`, as job `asynqueue`, and
    /// evaluates the rules in a file.
    pub async fn scraping(addresses: &[&str], rules: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = rules.canonicalize().unwrap();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{ job_name: asynqueue, static_configs: [{{ targets: ['{}'] }}] }}]\n",
            rules.display(),
            addresses.join("', '")
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        let port = free_port();
        let args = [
            "--config.file=prometheus.yml".to_owned(),
            "--storage.tsdb.path=data".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        let process = Process::start("prometheus", dir.path(), &args);
        let mut server = Self {
            dir,
            url: format!("http://127.0.0.1:{port}"),
            process,
        };
        server.wait_until_ready().await;
        server
    }

    async fn wait_until_ready(&mut self) {
        let started = Instant::now();
        while !matches!(reqwest::get(format!("{}/-/ready", self.url)).await, Ok(answer) if answer.status() == 200)
        {
            let log = || std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            assert!(
                !self.process.has_ended(),
                "prometheus did not start: {}",
                log()
            );
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "prometheus was not ready in time: {}",
                log()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its URL, such as `http://127.0.0.1:9090`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The response of its HTTP API to a path below `/api/v1/`.
    pub async fn api(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("{}/api/v1/{path}", self.url))
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// The values of a query now.
    pub async fn query(&self, query: &str) -> Vec<f64> {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let data = self.api(&format!("query?query={query}")).await;
        let samples = data["result"].as_array().unwrap().iter();
        let values = samples.map(|sample| sample["value"][1].as_str().unwrap().parse().unwrap());
        values.collect()
    }
}
