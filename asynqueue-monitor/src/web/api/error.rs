//! Errors as JSON, and extractors whose rejections are JSON too.

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::web::request::Failed;

/// Why a request failed.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    error: String,
}

/// An error.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Error {
    /// The invalid input, what was expected, and how to fix it.
    pub(super) error: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }

    pub(super) fn bad(error: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error.to_string())
    }

    pub(super) fn not_found(error: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, error.to_string())
    }
}

/// Maps each error to its status code.
impl<E: Into<Failed>> From<E> for ApiError {
    fn from(error: E) -> Self {
        let (status, error) = match error.into() {
            Failed::Broker(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
            Failed::NotFound(error) => (StatusCode::NOT_FOUND, error),
            Failed::Conflict(error) => (StatusCode::CONFLICT, error),
            Failed::BadRequest(error) => (StatusCode::BAD_REQUEST, error),
            Failed::TooMany(error) => (StatusCode::TOO_MANY_REQUESTS, error),
        };
        Self { status, error }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Error { error: self.error })).into_response()
    }
}

/// The query string.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let query = query.map_err(|error| ApiError::bad(error.body_text()))?;
        Ok(Self(query.0))
    }
}

/// The path parameters.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let path = path.map_err(|error| ApiError::bad(error.body_text()))?;
        Ok(Self(path.0))
    }
}

/// A JSON request body.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(JsonRejection::JsonDataError(error)) => Err(ApiError::bad(error.body_text())),
            Err(error) => Err(ApiError::new(error.status(), error.body_text())),
        }
    }
}
