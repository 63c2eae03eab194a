//! What goes around a process: tower layers over one request type.
//!
//! A process is a [`tower::Service`](tower_service::Service) from [`TaskRequest`] to [`TaskOutput`], so any layer of tower or of your own fits
//! around it. Its error is a [`StdTaskError`](crate::process::StdTaskError), which layers can box; a layer's own error is anything
//! that becomes a [`TaskError`](crate::process::TaskError). From the outside in:
//!
//! 1. a span, and with the feature `metrics` what measures attempts,
//! 2. the layers of [`ServerBuilder::layer`](crate::server::ServerBuilder::layer), the first added outermost,
//! 3. the layers and hooks of the [`ProcessWrapper`](crate::registry::ProcessWrapper), the last added outermost,
//! 4. catch panic and timeout, so that all of the above see both as plain errors,
//! 5. the process.
//!
//! A limit among these layers is applied before all of them: the server admits a task only when there is room.
//!
//! Each layer has a catch panic of its own around it: a panic in one ends an attempt, and never a worker.

mod archived;
mod catch_panic;
mod gate;
mod hook;
mod limit;
mod line;
#[cfg(feature = "metrics")]
mod metrics;
mod middleware;
mod pace;
mod rate_limit;
mod service;
mod timeout;
mod trace;

pub(crate) use self::archived::ArchiveHooks;
#[cfg(feature = "metrics")]
pub use self::metrics::MetricsLayer;
pub use self::{
    archived::Archived,
    catch_panic::CatchPanicLayer,
    hook::{Hook, HookLayer},
    limit::ConcurrencyLimitLayer,
    middleware::{MiddlewareLayer, Next, middleware_fn},
    rate_limit::RateLimitLayer,
    service::{BoxProcess, TaskFuture, TaskOutput, TaskRequest, TaskService},
    timeout::TimeoutLayer,
    trace::TraceLayer,
};
pub(crate) use self::{
    catch_panic::{catch, discard, panicked},
    gate::{Entry, Gate, Gates, Passes, Turn},
    timeout::expired,
};

/// What layers of other crates make errors into.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
