//! A complete program from one configuration file. It runs tasks, enqueues scheduled tasks, and serves metrics, health
//! and the web monitor. Run `cargo run --bin app` in the root of the workspace, then
//!
//! ```sh
//! open http://127.0.0.1:8080/      # the monitor: user `ada`, password `change me`
//! curl localhost:9464/metrics      # for Prometheus
//! curl localhost:9464/readyz       # 503 while it starts or stops
//! ASYNQUEUE_CONCURRENCY=4 ASYNQUEUE_MONITORING__PORT=9000 cargo run --bin app
//! ```
//!
//! The first argument is the configuration file. Default: `examples/app/app.toml`.

use asynqueue::{App, Config, prelude::*, scheduler::Entry};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "email:welcome", queue = "email", retention = "1h")]
struct Welcome {
    to: String,
    token: String,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "clean-up", retention = "1h")]
struct CleanUp {
    older_than_days: u32,
}

/// Stands for a connection to a mail server.
#[derive(Clone)]
struct Mailer {
    from: &'static str,
}

async fn welcome(mail: Payload<Welcome>, State(mailer): State<Mailer>) -> Result<(), TaskError> {
    tracing::info!(from = mailer.from, to = mail.to, "welcome email sent");
    Ok(())
}

async fn clean_up(task: Payload<CleanUp>) -> Result<(), TaskError> {
    tracing::info!(days = task.older_than_days, "old files deleted");
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let path = std::env::args().nth(1);
    let path = path.as_deref().unwrap_or("examples/app/app.toml");
    let config = Config::load(Some(path.as_ref()))?;
    let greeting = Welcome {
        to: "ada@example.org".into(),
        token: "5f3a".into(),
    };
    App::from_config(&config)
        .await?
        .state(Mailer {
            from: "shop@example.org",
        })
        .process(welcome)
        .process(clean_up)
        .schedule(Entry::new("greeting", "@every 1s", greeting)?)
        .run(shutdown_signal())
        .await?;
    Ok(())
}
