//! The workload of the benchmarks: a task that does nothing, and its CPU time.

use std::time::Duration;

use asynqueue::{broker::SharedBroker, prelude::*};

/// A task with a payload of 100 bytes.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "bench:noop")]
pub(crate) struct Noop {
    text: String,
}

impl Noop {
    /// 100 bytes as MessagePack.
    pub(crate) fn new() -> Self {
        Self {
            text: "x".repeat(92),
        }
    }
}

async fn noop(_: Payload<Noop>, _: Context) -> Result<(), TaskError> {
    Ok(())
}

/// Runs a server until the broker holds no task.
pub(crate) async fn drain(broker: SharedBroker) {
    let server = Server::builder(broker.clone())
        .concurrency(64)
        .process(noop)
        .start()
        .await
        .expect("starts");
    while broker.stats(&["default".into()]).await.expect("a response")[0].total() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    server.shutdown().await.expect("stops");
}

/// User and system time of this process, from Linux's `/proc`, in its ticks of 10 ms.
pub(crate) fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = stat.rsplit(')').next().expect("a name in brackets");
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|n| n.parse::<u64>().expect("a number"))
        .sum();
    Duration::from_millis(ticks * 10)
}
