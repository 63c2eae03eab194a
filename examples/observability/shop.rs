//! The shop: it packs an order, then sends the invoice.

use asynqueue::prelude::*;
use axum::{Json, extract::State, http::StatusCode};

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:pack", queue = "orders", backoff = fixed("100ms"))]
pub(crate) struct PackOrder {
    customer: String,
    lines: u32,
}

#[derive(Serialize, Deserialize, Task)]
#[task(event = "invoice:send", queue = "mail")]
pub(crate) struct SendInvoice {
    customer: String,
}

/// The web request.
pub(crate) async fn place_order(
    State(producer): State<Producer>,
    Json(order): Json<PackOrder>,
) -> Result<(StatusCode, String), (StatusCode, String)> {
    let task = producer.enqueue(order).await;
    let task = task.map_err(|error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    Ok((StatusCode::ACCEPTED, task.id().to_string()))
}

/// The first attempt fails for large orders.
pub(crate) async fn pack(
    order: Payload<PackOrder>,
    producer: asynqueue::State<Producer>,
    ctx: Context,
) -> Result<(), TaskError> {
    if order.lines > 10 && ctx.attempt() == 1 {
        return Err(TaskError::retry("the box is too small"));
    }
    // Logged in the span of the attempt, which contains the task and the trace.
    tracing::info!(lines = order.lines, "packed");
    let customer = order.customer.clone();
    producer.enqueue(SendInvoice { customer }).await?;
    Ok(())
}

pub(crate) async fn send_invoice(invoice: Payload<SendInvoice>) -> Result<(), TaskError> {
    tracing::info!(customer = invoice.customer, "invoice sent");
    Ok(())
}
