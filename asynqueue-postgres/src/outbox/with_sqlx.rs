//! Tasks in the caller's own transactions with `sqlx`.

use asynqueue_core::{
    producer::{EnqueueError, Prepared, TaskHandle},
    task::Task,
};
use sqlx::PgConnection;

use super::PostgresOutbox;
use crate::with_sqlx::Sqlx;

impl PostgresOutbox {
    /// Writes a task to the outbox in a transaction of `sqlx`, on a connection of the caller to the same database: see
    /// [`enqueue_in`](Self::enqueue_in).
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlx")))]
    pub async fn enqueue_in_sqlx<T: Task>(
        &self,
        connection: &mut PgConnection,
        task: Prepared<T>,
    ) -> Result<TaskHandle<T>, EnqueueError> {
        self.write(&mut Sqlx(connection), std::slice::from_ref(&task))
            .await?;
        Ok(task.in_outbox())
    }

    /// Writes tasks to the outbox in a transaction of `sqlx`: see [`enqueue_many_in`](Self::enqueue_many_in).
    ///
    /// # Errors
    ///
    /// As [`enqueue_in`](Self::enqueue_in).
    #[cfg_attr(docsrs, doc(cfg(feature = "sqlx")))]
    pub async fn enqueue_many_in_sqlx<T: Task>(
        &self,
        connection: &mut PgConnection,
        tasks: impl IntoIterator<Item = Prepared<T>>,
    ) -> Result<Vec<TaskHandle<T>>, EnqueueError> {
        let tasks: Vec<_> = tasks.into_iter().collect();
        self.write(&mut Sqlx(connection), &tasks).await?;
        Ok(tasks.into_iter().map(Prepared::in_outbox).collect())
    }
}
