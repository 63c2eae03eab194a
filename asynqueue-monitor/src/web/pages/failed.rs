//! What goes wrong, as a page.

use asynqueue_core::{broker::BrokerError, inspector::AgainError, scheduler::ScheduleError};
use axum::{
    extract::Request,
    http::StatusCode,
    middleware::Next,
    response::{IntoResponse, Response},
};
use maud::html;

use super::View;

/// Why there is no page.
#[derive(Debug)]
pub(in crate::web) enum Failed {
    Broker(BrokerError),
    NotFound(String),
    BadRequest(String),
    TooMany(String),
}

/// What a page tells about it.
#[derive(Clone, Debug)]
struct Problem {
    title: &'static str,
    message: String,
}

impl From<BrokerError> for Failed {
    fn from(error: BrokerError) -> Self {
        Self::Broker(error)
    }
}

impl From<ScheduleError> for Failed {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Unknown { .. } => Self::NotFound(error.to_string()),
            ScheduleError::Broker(error) => Self::Broker(error),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

impl From<AgainError> for Failed {
    fn from(error: AgainError) -> Self {
        match error {
            AgainError::NotFound(_) => Self::NotFound(error.to_string()),
            AgainError::Broker(error) => Self::Broker(error),
            other => Self::BadRequest(other.to_string()),
        }
    }
}

/// The status, and what [`explained`] makes a page of.
impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, title, message) = match self {
            Self::Broker(error) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The broker does not answer",
                error.to_string(),
            ),
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "Not found", what),
            Self::BadRequest(why) => (StatusCode::BAD_REQUEST, "That makes no sense", why),
            Self::TooMany(why) => (StatusCode::TOO_MANY_REQUESTS, "Too much at once", why),
        };
        let mut answer = status.into_response();
        let problem = Problem { title, message };
        answer.extensions_mut().insert(problem);
        answer
    }
}

/// Puts what goes wrong into a page with the way to all others.
pub(in crate::web) async fn explained(view: View, request: Request, next: Next) -> Response {
    let mut answer = next.run(request).await;
    let Some(Problem { title, message }) = answer.extensions_mut().remove() else {
        return answer;
    };
    let page = view.page(title, html! { p.error role="alert" { (message) } });
    (answer.status(), page).into_response()
}

pub(in crate::web) async fn not_found() -> Failed {
    Failed::NotFound("There is no such page.".into())
}
