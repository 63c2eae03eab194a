//! Submit and poll: an HTTP service that returns 202 immediately, reports progress, and returns the result on
//! completion: `cargo run --bin submit_and_poll`, then
//!
//! ```sh
//! curl -i -X POST localhost:3000/primes -H 'content-type: application/json' -d '{"below": 300000}'
//! curl localhost:3000/primes/ID            # status, progress and result as JSON
//! curl -N localhost:3000/primes/ID/events  # the same as server-sent events, until the end
//! curl -X DELETE localhost:3000/primes/ID  # cancel
//! ```

mod primes;

use asynqueue::{Inspector, prelude::*, producer::TaskStatus, task::TaskId};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{StatusCode, header::LOCATION},
    response::{
        IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::{get, post},
};
use futures_util::StreamExt;
use serde_json::{Value, json};

use self::primes::{CountPrimes, count_primes};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3000".into());
    let broker = asynqueue::connect("memory:").await?;
    let server = Server::builder(broker.clone())
        .concurrency(2)
        .process(count_primes)
        .start()
        .await?;
    let app = Router::new()
        .route("/primes", post(submit))
        .route("/primes/{id}", get(status).delete(cancel))
        .route("/primes/{id}/events", get(events))
        .with_state(Producer::new(broker));
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(shutdown_signal())
        .await?;
    Ok(server.shutdown().await?)
}

/// An error response.
struct Failed(StatusCode, String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

async fn submit(
    State(producer): State<Producer>,
    Json(task): Json<CountPrimes>,
) -> Result<impl IntoResponse, Failed> {
    let handle = producer.enqueue(task).await?;
    let location = format!("/primes/{}", handle.id());
    let body = Json(json!({ "id": handle.id().as_str(), "status": location }));
    Ok((StatusCode::ACCEPTED, [(LOCATION, location)], body))
}

fn handle(producer: &Producer, id: &str) -> Result<TaskHandle<CountPrimes>, Failed> {
    let id = TaskId::new(id).map_err(|error| Failed(StatusCode::BAD_REQUEST, error.to_string()))?;
    Ok(producer.handle_by_id(id))
}

async fn status(
    State(producer): State<Producer>,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    let status = handle(&producer, &id)?.status().await?;
    let code = match status {
        TaskStatus::Gone => StatusCode::NOT_FOUND,
        TaskStatus::Known(_) => StatusCode::OK,
    };
    Ok((code, Json(Shown::of(&producer, status))).into_response())
}

async fn events(
    State(producer): State<Producer>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    let changes = handle(&producer, &id)?.changes();
    let events = changes.map(move |status| match status {
        Ok(status) => Event::default().json_data(Shown::of(&producer, status)),
        Err(error) => Event::default().json_data(json!({ "error": error.to_string() })),
    });
    Ok(Sse::new(events))
}

async fn cancel(
    State(producer): State<Producer>,
    Path(id): Path<String>,
) -> Result<impl IntoResponse, Failed> {
    let outcome = handle(&producer, &id)?.cancel("by request").await?;
    Ok((StatusCode::ACCEPTED, format!("{outcome:?}")))
}

/// A task's status, and its result once there is one.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: TaskStatus,
    result: Option<Value>,
}

impl Shown {
    fn of(producer: &Producer, status: TaskStatus) -> Self {
        let result = match &status {
            TaskStatus::Known(info) => Inspector::new(producer.broker().clone()).result(info),
            TaskStatus::Gone => None,
        };
        Self { status, result }
    }
}
