//! A server that fails every other time.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use axum::{Router, extract::State, http::StatusCode, routing::post};
use bytes::Bytes;

pub(crate) struct FlakyServer {
    url: String,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    received: AtomicU64,
}

impl FlakyServer {
    /// Starts on a free port.
    pub(crate) async fn start() -> std::io::Result<Self> {
        let counts = Arc::new(Counts::default());
        let app = Router::new()
            .route("/", post(receive))
            .with_state(Arc::clone(&counts));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        tokio::spawn(async { axum::serve(listener, app).await });
        Ok(Self { url, counts })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The number of requests.
    pub(crate) fn requests(&self) -> u64 {
        self.counts.requests.load(SeqCst)
    }

    /// The number of accepted uploads.
    pub(crate) fn received(&self) -> u64 {
        self.counts.received.load(SeqCst)
    }
}

async fn receive(State(counts): State<Arc<Counts>>, picture: Bytes) -> StatusCode {
    if counts.requests.fetch_add(1, SeqCst) % 2 == 0 {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    if picture.is_empty() {
        return StatusCode::BAD_REQUEST;
    }
    counts.received.fetch_add(1, SeqCst);
    StatusCode::CREATED
}
