//! A thousand welcome emails. Some are retried, some bounce, one panics, one cannot be decoded and one has no handler:
//! `cargo run -p welcome_email`.
//!
//! At the end, every task is accounted for.

mod progress;
mod report;

use std::time::Duration;

use asynqueue::{broker::SharedBroker, prelude::*, process::OnDecodeError};

/// The number of enqueued tasks.
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

/// The payload of an older version of the program, with the same event and without `user_id`.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome")]
struct OldWelcomeEmail {
    address: String,
}

/// An event without a handler.
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

/// A fake mail server with typical failures.
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
    // The task records the panic with its backtrace. Printing it would break the progress line.
    std::panic::set_hook(Box::new(|_| {}));

    let broker = asynqueue::connect("memory:").await?;
    enqueue_all(&broker).await?;

    let server = Server::builder(broker.clone())
        .concurrency(16)
        .process(ProcessWrapper::new(SendWelcome { mailer: Mailer }))
        // No other server could decode or handle these tasks.
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
