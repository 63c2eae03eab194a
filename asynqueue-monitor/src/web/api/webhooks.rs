//! Webhooks.

use axum::{Json, http::StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{ApiError, Path};
use crate::web::request::View;

/// A webhook. Its path is not shown, because it is often a password.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Webhook {
    host: String,
    /// `JSON` or `Slack`.
    format: &'static str,
}

/// Lists the webhooks that receive a notification when a problem needs attention, and when it has cleared.
#[utoipa::path(get, path = "/api/webhooks", responses((status = 200, description = "The webhooks.", body = Vec<Webhook>)))]
pub(super) async fn list_webhooks(view: View) -> Json<Vec<Webhook>> {
    Json(all(&view))
}

#[cfg(feature = "webhooks")]
fn all(view: &View) -> Vec<Webhook> {
    let webhooks = view.shared.webhooks.iter();
    let webhook = |one: &crate::web::notify::Webhook| Webhook {
        host: one.host().to_owned(),
        format: one.format(),
    };
    webhooks.map(webhook).collect()
}

#[cfg(not(feature = "webhooks"))]
fn all(_: &View) -> Vec<Webhook> {
    Vec::new()
}

/// Sends a test notification to the webhook at a place in the list, from 0.
#[utoipa::path(post, path = "/api/webhooks/{place}/test", params(("place" = usize, Path, example = 0)), responses((status = 204, description = "The webhook accepted the test."), (status = 502, description = "The webhook did not accept the test.", body = super::error::Error)))]
pub(super) async fn test_webhook(
    view: View,
    Path(place): Path<usize>,
) -> Result<StatusCode, ApiError> {
    #[cfg(feature = "webhooks")]
    {
        let tested = crate::web::notify::test(&view, place).await?;
        let failed = |error| ApiError::new(StatusCode::BAD_GATEWAY, error);
        tested.map_err(failed)?;
        Ok(StatusCode::NO_CONTENT)
    }
    #[cfg(not(feature = "webhooks"))]
    {
        let _ = view;
        Err(ApiError::not_found(format!(
            "webhook {place} does not exist"
        )))
    }
}
