//! The example, running.

use std::{
    io::{BufRead, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::json;

/// The shop, in a process of its own.
pub(crate) struct Shop {
    child: Child,
    /// Held, so that it can write on.
    _says: Lines<BufReader<ChildStdout>>,
    pub(crate) url: String,
}

impl Shop {
    /// Starts it on a free port, with its broker and where its spans go.
    pub(crate) fn start(broker: &str, collector: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_observability"))
            .args(["127.0.0.1:0", broker])
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector)
            .env("OTEL_BSP_SCHEDULE_DELAY", "50")
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs");
        let mut says = BufReader::new(child.stdout.take().expect("its output")).lines();
        let line = says.next().expect("a line").expect("text");
        let url = line
            .strip_prefix("listening on ")
            .expect("where")
            .to_owned();
        Self {
            child,
            _says: says,
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
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
        answer.text().await.expect("an id")
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let answer = reqwest::get(format!("{}{path}", self.url))
            .await
            .expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("text"))
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // One that has ended is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
