//! A fake order table and a fake bank, which await where the real ones would.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use asynqueue::{task::TaskId, testing::crash_point};

/// The systems outside of the handler. Clones share their state.
#[derive(Clone, Default)]
pub(crate) struct Shop(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    paid: BTreeSet<u64>,
    charges: Vec<u64>,
    keys: BTreeSet<String>,
}

impl Shop {
    /// `SELECT paid FROM orders WHERE id = …`
    pub(crate) async fn is_paid(&self, order: u64) -> bool {
        crash_point().await;
        self.books().paid.contains(&order)
    }

    /// `UPDATE orders SET paid = true WHERE id = …`
    pub(crate) async fn set_paid(&self, order: u64) {
        crash_point().await;
        self.books().paid.insert(order);
        crash_point().await;
    }

    /// Charges the card. The bank accepts each key once, and every charge without a key.
    pub(crate) async fn charge(&self, cents: u64, key: Option<&TaskId>) {
        // The request is in transit.
        crash_point().await;
        {
            let mut books = self.books();
            let is_new = key.is_none_or(|key| books.keys.insert(key.to_string()));
            if is_new {
                books.charges.push(cents);
            }
        }
        // The response is in transit.
        crash_point().await;
    }

    /// What the customer sees: the charges on the card, in cents.
    pub(crate) fn charges(&self) -> Vec<u64> {
        self.books().charges.clone()
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
