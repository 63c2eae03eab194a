//! A handler that charges a card twice after a crash, and one that does not.

use asynqueue::{prelude::*, task::TaskId};

use crate::shop::Shop;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "order:charge")]
pub(crate) struct ChargeOrder {
    pub(crate) order: u64,
    pub(crate) cents: u64,
}

/// Looks whether the order is paid, charges, and marks it as paid. The worker can be lost between the last two.
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

/// The same, with the task's id as the key of the charge: the bank refuses a second one.
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
