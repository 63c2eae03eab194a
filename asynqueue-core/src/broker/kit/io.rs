//! The thread that reads and writes connections, where no handler can block it.
//!
//! Client libraries drive a connection with a task on the runtime that opened it. On the application's runtime, a handler
//! that blocks its thread could delay that task, and with it the heartbeats and outcomes of every server in the process.

use std::{future::Future, io, thread};

use crate::sync::Mutex;
use tokio::{runtime::Handle, task::JoinHandle};

/// The runtime of the thread, shared by all connections of the process. It exists from the first connection to the end
/// of the process.
fn runtime() -> io::Result<Handle> {
    static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);
    let mut started = RUNTIME.lock();
    if let Some(runtime) = &*started {
        return Ok(runtime.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    thread::Builder::new()
        .name("asynqueue-io".into())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(started.insert(handle).clone())
}

/// Runs `work` on the thread for connections. It continues if nobody awaits the result.
///
/// # Errors
///
/// When the thread cannot be started.
pub fn spawn<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    Ok(runtime()?.spawn(work))
}

/// Runs `work` on the thread for connections and returns its result.
///
/// # Errors
///
/// When the thread cannot be started, or the work panics.
pub async fn run<T: Send + 'static>(
    work: impl Future<Output = T> + Send + 'static,
) -> io::Result<T> {
    spawn(work)?.await.map_err(io::Error::other)
}
