//! Fire and forget: a shop takes orders, and background tasks send the confirmations:
//! `cargo run --bin fire_and_forget`.
//!
//! Taking an order does not wait for its confirmation, so a slow mail server does not slow down the shop.

use std::time::Duration;

use asynqueue::{Inspector, prelude::*};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:confirm", max_retry = 5, backoff = fixed("50ms"))]
struct ConfirmOrder {
    order: u64,
    email: String,
}

async fn confirm(task: Payload<ConfirmOrder>, ctx: Context) -> Result<(), TaskError> {
    if task.order.is_multiple_of(3) && ctx.attempt() == 1 {
        return Err(TaskError::retry("the mail server is busy"));
    }
    println!(
        "confirmed order {} to {} (attempt {})",
        task.order,
        task.email,
        ctx.attempt()
    );
    Ok(())
}

/// A request handler: it returns as soon as the task is accepted.
async fn take_order(producer: &Producer, order: u64) -> Result<(), BoxError> {
    let email = format!("customer{order}@example.org");
    // With this ID, a request that is sent twice enqueues one task.
    let task = producer.enqueue(ConfirmOrder { order, email });
    task.id(format!("confirm-{order}")).await?;
    println!("took order {order}");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let broker = asynqueue::connect("memory:").await?;
    let producer = Producer::new(broker.clone());
    for order in 1..=10 {
        take_order(&producer, order).await?;
    }
    let again = take_order(&producer, 1).await;
    println!(
        "again: {}",
        again
            .err()
            .map_or_else(String::new, |error| error.to_string())
    );

    let server = Server::builder(broker.clone())
        .process(confirm)
        .start()
        .await?;
    let inspector = Inspector::new(broker);
    while inspector.queue(&"default".into()).await?.stats.total() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let today = inspector.queue(&"default".into()).await?.today;
    println!(
        "{} attempts succeeded, {} failed and were retried",
        today.succeeded, today.failed
    );
    Ok(server.shutdown().await?)
}
