//! Async functions and closures as processes.

use std::future::Future;

use async_trait::async_trait;

use super::{Context, Payload, Process, TaskError};
use crate::task::Task;

#[async_trait]
impl<T, F, Fut, E> Process<T> for F
where
    T: Task,
    F: Fn(Payload<T>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T::Output, E>> + Send,
    E: Into<TaskError>,
{
    async fn handle(&self, task: Payload<T>, ctx: &Context) -> Result<T::Output, TaskError> {
        self(task, ctx.clone()).await.map_err(Into::into)
    }
}
