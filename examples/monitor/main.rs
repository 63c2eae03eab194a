//! A web service with the monitor of its tasks: `cargo run --bin monitor`, then open the URL that it prints.
//!
//! Some emails bounce, some are retried, reports take a while, and a schedule adds more tasks.

use std::{net::SocketAddr, time::Duration};

use asynqueue::{Monitor, Scheduler, monitor::Role, prelude::*, scheduler::Entry};
use axum::{Router, routing::get};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:send", queue = "email", max_retry = 3, backoff = fixed("2s"), retention = "1h")]
struct Email {
    to: String,
    password: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(
    event = "report:build",
    queue = "reports",
    timeout = "5m",
    retention = "1h"
)]
struct Report {
    pages: u64,
}

async fn send(email: Payload<Email>, ctx: Context) -> Result<(), TaskError> {
    if email.to.starts_with("nobody") {
        return Err(TaskError::skip_retry("550 no such mailbox"));
    }
    if email.to.starts_with("busy") && ctx.attempt() < 3 {
        return Err(TaskError::retry("421 try again later"));
    }
    Ok(())
}

async fn build(report: Payload<Report>, ctx: Context) -> Result<(), TaskError> {
    for page in 0..report.pages {
        ctx.progress(page, report.pages, "drawing charts");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Enqueues tasks, as a real service would.
async fn enqueue_tasks(producer: Producer) -> Result<(), BoxError> {
    for number in 0_u64.. {
        let who = match number % 20 {
            7 => "nobody",
            3 | 13 => "busy",
            _ => "ada",
        };
        let to = format!("{who}{number}@example.org");
        let password = format!("secret-{number}");
        producer.enqueue(Email { to, password }).await?;
        if number % 50 == 0 {
            producer.enqueue(Report { pages: 80 }).await?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("127.0.0.1:8089");
    let broker = asynqueue::connect("memory:").await?;
    let server = Server::builder(broker.clone()).process(send).process(build);
    let server = server.start().await?;
    let digest = Email {
        to: "all@example.org".into(),
        password: "none".into(),
    };
    let scheduler = Scheduler::builder(broker.clone());
    let scheduler = scheduler.entry(Entry::new("digest", "@every 10s", digest)?);
    let scheduler = scheduler.start().await?;

    let monitor = Monitor::new(broker.clone())
        .user("ada", "change me", Role::Admin)?
        .redact(["password"]);
    let app: Router = Router::new()
        .route("/", get(|| async { "the web service" }))
        .nest("/monitoring", monitor.router());
    // With the address of the client, so that login throttling applies per address.
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    println!("http://{address}/monitoring, user `ada`, password `change me`");
    tokio::select! {
        served = axum::serve(listener, app) => served?,
        enqueued = enqueue_tasks(Producer::new(broker)) => enqueued?,
        () = shutdown_signal() => {}
    }
    scheduler.shutdown().await;
    Ok(server.shutdown().await?)
}
