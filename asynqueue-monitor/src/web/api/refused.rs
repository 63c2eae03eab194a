//! Responses of layers around the API, as JSON: a refused login, read-only access, an unknown method.

use axum::{
    Json,
    body::to_bytes,
    extract::Request,
    http::{
        StatusCode,
        header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::error::Error;

/// How much of a message is read. They are much shorter.
const MESSAGE: usize = 10_000;

/// Turns the text of an error of the API into JSON, so that programs read all errors in the same way.
pub(in crate::web) async fn as_json(request: Request, next: Next) -> Response {
    let is_api = request.uri().path().starts_with("/api/");
    let response = next.run(request).await;
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let headers = response.headers();
    let kind = headers.get(CONTENT_TYPE);
    let is_text = kind.is_none_or(|kind| kind.as_bytes().starts_with(b"text/plain"))
        && !headers.contains_key(CONTENT_ENCODING);
    if !(is_api && is_error && is_text) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let text = to_bytes(body, MESSAGE).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let error = match (text.trim(), parts.status) {
        ("", StatusCode::METHOD_NOT_ALLOWED) => {
            "the path has no such method: see `/api/openapi.json` for all operations"
        }
        ("", status) => status.canonical_reason().unwrap_or_default(),
        (text, _) => text,
    };
    let error = error.to_owned();
    let (json, body) = Json(Error { error }).into_response().into_parts();
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.extend(json.headers);
    Response::from_parts(parts, body)
}
