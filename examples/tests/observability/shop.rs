//! The running example.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::json;

/// The shop, in its own process.
pub(crate) struct Shop {
    child: Child,
    /// Kept open, so that the shop can continue to write.
    _lines: Lines<BufReader<ChildStdout>>,
    pub(crate) url: String,
}

impl Shop {
    /// Starts the shop on a free port, with a broker and a collector.
    pub(crate) fn start(broker: &str, collector: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_observability"))
            .args(["127.0.0.1:0", broker])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = lines.next().expect("a line").expect("text");
        let url = line
            .strip_prefix("listening on ")
            .expect("an address")
            .to_owned();
        Self {
            child,
            _lines: lines,
            url,
        }
    }

    pub(crate) async fn order(&self, lines: u32, traceparent: Option<&str>) -> String {
        let client = reqwest::Client::new();
        let order = json!({ "customer": "ada", "lines": lines });
        let mut request = client.post(format!("{}/orders", self.url)).json(&order);
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        let response = request.send().await.expect("a response");
        assert_eq!(response.status(), 202);
        response.text().await.expect("an ID")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("{}{path}", self.url))
            .await
            .expect("a response");
        let status = response.status().as_u16();
        (status, response.text().await.expect("text"))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Fails if the program has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
