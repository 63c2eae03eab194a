//! A handler that charges a card twice after a crash, and one that does not.

use asynqueue::{prelude::*, task::TaskId};

use crate::shop::Shop;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:charge")]
pub(crate) struct ChargeOrder {
    pub(crate) order: u64,
    pub(crate) cents: u64,
}

/// Checks whether the order is paid, charges the card, and marks the order as paid. The worker can crash between the
/// last two steps.
pub(crate) async fn charge_twice(
    task: Payload<ChargeOrder>,
    shop: State<Shop>,
) -> Result<(), TaskError> {
    if shop.is_paid(task.order).await {
        return Ok(());
    }
    shop.charge(task.cents, None).await;
    shop.set_paid(task.order).await;
    Ok(())
}

/// The same with an idempotency key, the task ID: the bank ignores a second charge.
pub(crate) async fn charge_once(
    task: Payload<ChargeOrder>,
    shop: State<Shop>,
    id: TaskId,
) -> Result<(), TaskError> {
    if shop.is_paid(task.order).await {
        return Ok(());
    }
    shop.charge(task.cents, Some(&id)).await;
    shop.set_paid(task.order).await;
    Ok(())
}
