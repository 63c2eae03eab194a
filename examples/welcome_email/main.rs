//! A thousand welcome emails, of which some bounce, some never arrive, one panics, one is garbled and one nobody
//! handles: `cargo run --bin welcome_email`.
//!
//! At the end each of the thousand is accounted for.

mod progress;
mod report;

use std::time::Duration;

use asynqueue::{broker::SharedBroker, prelude::*, process::OnDecodeError};

/// All that is enqueued.
const TASKS: u64 = 1_000;

#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "email:welcome",
    max_retry = 3,
    backoff = exponential("100ms", "1s"),
    timeout = "5s",
    retention = "1h"
)]
struct WelcomeEmail {
    user_id: u64,
}

/// What an older version of the program sent under the same event: it has no `user_id`.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome")]
struct OldWelcomeEmail {
    address: String,
}

/// An event that no process of this program handles.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:newsletter")]
struct Newsletter;

struct SendWelcome {
    mailer: Mailer,
}

impl Process<WelcomeEmail> for SendWelcome {
    async fn handle(&self, task: Payload<WelcomeEmail>, ctx: &Context) -> Result<(), TaskError> {
        self.mailer.welcome(task.user_id, ctx.attempt()).await?;
        Ok(())
    }
}

/// Stands in for a mail server with the usual troubles.
struct Mailer;

impl Mailer {
    async fn welcome(&self, user_id: u64, attempt: u32) -> std::io::Result<()> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        match user_id {
            13 => panic!("no template for user 13"),
            id if id % 200 == 0 => Err(std::io::Error::other("mailbox does not exist")),
            id if id % 10 == 0 && attempt < 3 => Err(std::io::Error::other("mail server is busy")),
            _ => Ok(()),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // A panic is kept with its task, backtrace and all; it need not be printed across the progress line too.
    std::panic::set_hook(Box::new(|_| {}));

    let broker = asynqueue::connect("memory:").await?;
    enqueue_all(&broker).await?;

    let server = Server::builder(broker.clone())
        .concurrency(16)
        .process(ProcessWrapper::new(SendWelcome { mailer: Mailer }))
        // There is no other server that could decode or handle what this one cannot.
        .on_decode_error(OnDecodeError::Archive)
        .unknown_event_grace(Duration::ZERO)
        .start()
        .await?;
    progress::watch(&broker).await?;
    server.shutdown().await?;

    report::print(&broker).await
}

async fn enqueue_all(broker: &SharedBroker) -> Result<(), BoxError> {
    let producer = Producer::new(broker.clone());
    let emails = (1..=TASKS - 2).map(|user_id| WelcomeEmail { user_id });
    for result in producer.enqueue_many(emails).await {
        result?;
    }
    producer
        .enqueue(OldWelcomeEmail {
            address: "ada@example.org".into(),
        })
        .await?;
    producer.enqueue(Newsletter).await?;
    Ok(())
}
