//! Tasks in the caller's own transactions with `sqlx`.

use asynqueue_core::{
    producer::{EnqueueError, Prepared, TaskHandle},
    task::{Clock, Task},
};
use sqlx::SqliteConnection;

use super::{SqliteOutbox, insert};
use crate::with_sqlx::Sqlx;

impl SqliteOutbox {
    /// Writes a task to the outbox in a transaction of `sqlx`, on a connection of the caller to the same file: see
    /// [`enqueue_in`](Self::enqueue_in).
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlx")))]
    pub async fn enqueue_in_sqlx<T: Task>(
        &self,
        connection: &mut SqliteConnection,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        let mut sql = Sqlx(connection);
        let file = sql.file().await.map_err(|fault| self.inner.error(fault))?;
        self.check_same(&file)?;
        let insert = insert(&mut sql, &task, self.inner.clock.now());
        insert.await.map_err(|fault| self.inner.error(fault))?;
        Ok(task.in_outbox())
    }
}
