//! Managed tasks: pictures are resized and uploaded to a flaky server, urgent ones first, and a schedule cleans up old
//! ones: `cargo run --bin managed [FOLDER]`.
//!
//! It shows retries, priorities, schedules and statistics.

mod pictures;
mod upload;

use std::{path::PathBuf, sync::Arc, time::Duration};

use asynqueue::{Inspector, Scheduler, prelude::*, scheduler::Entry, task::TaskState};

use self::{
    pictures::{CleanUp, Folder, Resize, clean_up, make_pictures, resize},
    upload::FlakyServer,
};

/// The number of pictures.
const PICTURES: u32 = 12;

/// Uploads a resized picture.
#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "picture:upload",
    queue = "uploads",
    max_retry = 10,
    backoff = exponential("20ms", "500ms"),
    timeout = "5s",
    retention = "1h"
)]
struct Upload {
    file: PathBuf,
}

async fn upload(task: Payload<Upload>, server: State<Arc<FlakyServer>>) -> Result<(), TaskError> {
    let picture = tokio::fs::read(&task.file).await?;
    let response = reqwest::Client::new()
        .post(server.url())
        .body(picture)
        .send()
        .await?;
    match response.status() {
        status if status.is_success() => Ok(()),
        // A retry would get the same response.
        status if status.is_client_error() => Err(TaskError::skip_retry(format!("{status}"))),
        status => Err(TaskError::retry(format!("the server returned {status}"))),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let folder = std::env::args()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = folder.join(format!("asynqueue-pictures-{}", std::process::id()));
    make_pictures(&folder, PICTURES)?;
    let broker = asynqueue::connect("memory:").await?;
    let producer = Producer::new(broker.clone());
    for n in 0..PICTURES {
        // Pictures of paying customers come first.
        let priority = if n % 4 == 0 { 9 } else { 0 };
        let task = producer.enqueue(Resize {
            picture: n,
            width: 64,
        });
        task.id(format!("resize-{n}")).priority(priority).await?;
    }

    let flaky = Arc::new(FlakyServer::start().await?);
    let server = Server::builder(broker.clone())
        .queue("pictures", 2)
        .queue("uploads", 1)
        .concurrency(2)
        .state(Folder(folder.clone()))
        .state(Arc::clone(&flaky))
        .state(producer)
        .process(resize)
        .process(upload)
        .process(clean_up)
        .start()
        .await?;
    // A real program would run this every night.
    let nightly = Entry::new("nightly-clean-up", "* * * * * *", CleanUp { keep: 3 })?;
    let scheduler = Scheduler::builder(broker.clone())
        .entry(nightly)
        .start()
        .await?;

    let inspector = Inspector::new(broker.clone());
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let uploads = inspector.queue(&"uploads".into()).await?.stats;
        let cleaned = std::fs::read_dir(&folder)?.count() <= 3;
        if uploads.count(TaskState::Completed) == u64::from(PICTURES) && cleaned {
            break;
        }
    }
    scheduler.shutdown().await;
    for queue in ["pictures", "uploads"] {
        let stats = inspector.queue(&queue.into()).await?.stats;
        println!(
            "{queue}: {} attempts succeeded, {} failed and were retried",
            stats.succeeded, stats.failed
        );
    }
    println!(
        "{} pictures uploaded in {} requests",
        flaky.received(),
        flaky.requests()
    );
    let ticks = inspector
        .schedule_events(&"nightly-clean-up".into(), 100)
        .await?;
    println!(
        "cleaned up at {} ticks, {} pictures left",
        ticks.len(),
        std::fs::read_dir(&folder)?.count()
    );
    std::fs::remove_dir_all(folder)?;
    Ok(server.shutdown().await?)
}
