//! What goes around a process: tower layers over one request type.
//!
//! A process is a [`tower::Service`] from [`TaskRequest`] to [`TaskOutput`], so any layer of tower or of your own fits
//! around it. The server puts them on from the outside in:
//!
//! 1. catch panic (outermost, so that a layer's panic ends one attempt and not the worker),
//! 2. the layers of [`ServerBuilder::layer`](crate::ServerBuilder::layer), the first added outermost,
//! 3. the layers and hooks of the [`ProcessWrapper`](crate::ProcessWrapper),
//! 4. timeout, then catch panic, so that all of the above see both as plain errors,
//! 5. the process.

mod catch_panic;
mod hook;
mod limit;
mod middleware;
mod rate_limit;
mod service;
mod timeout;

pub use self::{
    catch_panic::{CatchPanic, CatchPanicLayer},
    hook::{Hook, HookLayer, Hooked},
    limit::{ConcurrencyLimit, ConcurrencyLimitLayer},
    middleware::{Middleware, MiddlewareLayer, Next, middleware_fn},
    rate_limit::{RateLimit, RateLimitLayer},
    service::{BoxProcess, TaskFuture, TaskOutput, TaskRequest},
    timeout::{Timeout, TimeoutLayer},
};

/// What layers of other crates make errors into.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
