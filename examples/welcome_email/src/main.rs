//! A thousand welcome emails in a file. Some are retried, some bounce, one panics, one cannot be decoded and one has no
//! handler: `cargo run -p welcome_email`.
//!
//! Stop the program at any moment, by Ctrl-C or `kill -9`, and start it again: it resumes where it was. At the end,
//! every task is accounted for. `rm -r welcome_email.*` starts over.

mod mailer;
mod progress;
mod report;

use std::time::Duration;

use asynqueue::{
    EnqueueError,
    broker::{Conflict, SharedBroker},
    prelude::*,
    process::OnDecodeError,
};
use mailer::Mailer;

/// The tasks, in the current folder.
const URL: &str = "sqlite://welcome_email.db";

/// The number of enqueued tasks.
const TASKS: u64 = 1_000;

#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "email:welcome",
    max_retry = 3,
    backoff = exponential("100ms", "1s"),
    timeout = "5s",
    // How long a restart finds the completed task, so that it does not enqueue it again.
    retention = "7d"
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

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // The task records the panic with its backtrace. Printing it would break the progress line.
    std::panic::set_hook(Box::new(|_| {}));

    let broker = asynqueue::connect(URL).await?;
    let new = enqueue_all(&broker).await?;
    println!("{new} tasks enqueued, {} found in {URL}\n", TASKS - new);

    let server = Server::builder(broker.clone())
        .concurrency(16)
        .process(ProcessWrapper::new(SendWelcome {
            mailer: Mailer::open()?,
        }))
        // The tasks that a killed program was running start again once their leases have expired: after 3 to 4 s, and
        // 45 to 49 s with the default of 30 s, which tolerates longer pauses of a machine.
        .lease(Duration::from_secs(2))
        // No other server could decode or handle these tasks.
        .on_decode_error(OnDecodeError::Archive)
        .unknown_event_grace(Duration::ZERO)
        .start()
        .await?;
    progress::watch(&broker).await?;
    server.shutdown().await?;

    report::print(&broker).await?;
    println!("\nTo start over: rm -r welcome_email.*");
    Ok(())
}

/// Enqueues the tasks that the broker does not have yet, and returns their number. The id of a task is that of its user,
/// so the broker refuses to take the task twice.
async fn enqueue_all(broker: &SharedBroker) -> Result<u64, BoxError> {
    let producer = Producer::new(broker.clone());
    let emails = (1..=TASKS - 2).map(|user_id| WelcomeEmail { user_id });
    let results = producer
        .enqueue_many_with(emails, |email, call| call.id(email.user_id.to_string()))
        .await;
    let old = OldWelcomeEmail {
        address: "ada@example.org".into(),
    };
    let mut new = 0;
    for result in results {
        new += count_new(result)?;
    }
    new += count_new(producer.enqueue(old).id("old").await)?;
    new += count_new(producer.enqueue(Newsletter).id("newsletter").await)?;
    Ok(new)
}

fn count_new<T>(result: Result<T, EnqueueError>) -> Result<u64, EnqueueError> {
    match result {
        Ok(_) => Ok(1),
        Err(EnqueueError::Conflict(Conflict::Id { .. })) => Ok(0),
        Err(error) => Err(error),
    }
}
