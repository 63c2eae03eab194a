//! Tower layers around a handler, over one request type.
//!
//! A handler with its layers is a [`tower::Service`](tower_service::Service) from [`TaskRequest`] to [`TaskOutput`], so any tower layer fits
//! around it. Its error is a [`StdTaskError`](crate::process::StdTaskError), which layers can box; a layer may return
//! any error that converts into a [`TaskError`](crate::process::TaskError). From the outside in:
//!
//! 1. a span and, with the feature `metrics`, the measuring of attempts,
//! 2. the layers of [`ServerBuilder::layer`](crate::server::ServerBuilder::layer), the first added outermost,
//! 3. the layers and hooks of the [`ProcessWrapper`](crate::registry::ProcessWrapper), the last added outermost,
//! 4. catch panic and timeout, so that all layers above see both as ordinary errors,
//! 5. the handler.
//!
//! Limits among these layers apply before all of them: the server admits a task only when there is room.
//!
//! Each layer is wrapped in its own catch panic. A panic in a layer ends an attempt, never a worker.

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

/// The boxed error that layers of other crates produce.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
