//! Publish and subscribe: a shop publishes orders, and three services in separate processes handle them:
//!
//! ```sh
//! cargo run --bin publish_subscribe -- inventory redis://localhost
//! cargo run --bin publish_subscribe -- billing redis://localhost
//! cargo run --bin publish_subscribe -- shipping redis://localhost
//! cargo run --bin publish_subscribe -- shop redis://localhost 10
//! ```
//!
//! Kill a service with `kill -9` and start it again: it misses no order. The shop does not know its subscribers.

use std::time::Duration;

use asynqueue::prelude::*;

/// An event describes what happened, not what subscribers should do.
#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:placed", max_retry = 10, backoff = exponential("100ms", "10s"))]
struct OrderPlaced {
    order: u64,
    article: String,
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let mut args = std::env::args().skip(1);
    let (Some(service), Some(url)) = (args.next(), args.next()) else {
        return Err("usage: publish_subscribe SERVICE REDIS_URL [ORDERS]".into());
    };
    match service.as_str() {
        "shop" => {
            let orders = args.next().map_or(Ok(10), |orders| orders.parse())?;
            publish(&url, orders).await
        }
        "inventory" | "billing" | "shipping" => subscribe(service, &url).await,
        other => Err(format!(
            "unknown service `{other}`: expected shop, inventory, billing or shipping"
        )
        .into()),
    }
}

async fn publish(url: &str, orders: u64) -> Result<(), BoxError> {
    let producer = Producer::new(asynqueue::connect(url).await?);
    for order in 1..=orders {
        let article = ["book", "lamp", "chair"][order as usize % 3].to_owned();
        let event = producer.publish(OrderPlaced { order, article });
        // With the order as its ID, an event that is published again after a crash is delivered once.
        let published = event.id(format!("order-{order}")).await?;
        println!(
            "order {order} published to {} services",
            published.subscribers
        );
    }
    Ok(())
}

async fn subscribe(service: String, url: &str) -> Result<(), BoxError> {
    let name = service.clone();
    let handler = move |event: Payload<OrderPlaced>, ctx: Context| {
        let name = name.clone();
        async move {
            // Some work.
            tokio::time::sleep(Duration::from_millis(5)).await;
            println!(
                "{name}: order {} ({}), attempt {}",
                event.order,
                event.article,
                ctx.attempt()
            );
            Ok::<_, TaskError>(())
        }
    };
    let server = Server::builder(asynqueue::connect(url).await?)
        .subscribe(service.clone(), handler)
        // A short lease, so that the tasks of a killed process are reclaimed soon.
        .lease(Duration::from_secs(2))
        .start()
        .await?;
    println!("{service} is ready");
    shutdown_signal().await;
    Ok(server.shutdown().await?)
}
