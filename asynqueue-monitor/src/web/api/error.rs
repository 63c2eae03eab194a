//! What goes wrong, as JSON; and what a request is made of, so that this holds for what cannot be read too.

use asynqueue_core::{
    broker::BrokerError, inspector::InvalidFilter, scheduler::ScheduleError, task::InvalidTaskId,
};
use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Request, rejection::JsonRejection},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::web::pages::Failed;

/// Why a request was not done.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    error: String,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Error {
    /// What was given, what was expected, and what to do.
    error: String,
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

impl From<BrokerError> for ApiError {
    fn from(error: BrokerError) -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, format!("the broker does not answer: {error}"))
    }
}

impl From<Failed> for ApiError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Broker(error) => error.into(),
            Failed::NotFound(error) => Self::not_found(error),
            Failed::BadRequest(error) => Self::bad(error),
            Failed::TooMany(error) => Self::new(StatusCode::TOO_MANY_REQUESTS, error),
        }
    }
}

impl From<InvalidFilter> for ApiError {
    fn from(error: InvalidFilter) -> Self {
        Self::bad(error)
    }
}

impl From<InvalidTaskId> for ApiError {
    fn from(error: InvalidTaskId) -> Self {
        Self::bad(error)
    }
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Unknown { .. } => Self::not_found(error),
            ScheduleError::Broker(error) => error.into(),
            other => Self::bad(other),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(Error { error: self.error })).into_response()
    }
}

/// The query of an address.
pub(super) struct Query<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let query = query.map_err(|error| ApiError::bad(error.body_text()))?;
        Ok(Self(query.0))
    }
}

/// The parts of a path.
pub(super) struct Path<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let path = path.map_err(|error| ApiError::bad(error.body_text()))?;
        Ok(Self(path.0))
    }
}

/// JSON that is sent.
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
