//! Requests to webhooks.

use std::{error::Error, io, time::Duration};

use axum::body::Bytes;
use http_body_util::Full;
use hyper::{Request, Uri, header::CONTENT_TYPE};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::time::timeout;

/// The time limit of a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An HTTP client. It follows no redirects and reads no bodies.
#[derive(Clone)]
pub(super) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// A client that trusts the certificates of the system.
    pub(super) fn new() -> io::Result<Self> {
        let connector = HttpsConnectorBuilder::new().with_native_roots()?;
        let connector = connector.https_or_http().enable_http1().build();
        let client = legacy::Client::builder(TokioExecutor::new())
            // A notification is rare, so no connection is kept.
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self(client))
    }

    /// Sends a body in JSON.
    ///
    /// # Errors
    ///
    /// Why it was not accepted, without the URL.
    pub(super) async fn post(&self, url: &Uri, body: Value) -> Result<(), String> {
        let request = Request::post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .map_err(|error| error.to_string())?;
        let response = timeout(TIMEOUT, self.0.request(request)).await;
        let response = response
            .map_err(|_| format!("no response within {TIMEOUT:?}"))?
            .map_err(|error| reason(&error))?;
        match response.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("the response is {status}")),
        }
    }
}

/// An error with its causes, none of which contains the URL.
fn reason(error: &legacy::Error) -> String {
    let mut text = "the request failed".to_owned();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
