//! Checks that the attribute `#[process]` adds to a function. Each of these is called with the types that the function
//! names, so that the compiler reports an error at the place of its cause.

use std::future::Future;

use super::{FromTask, arguments::Arguments, function::Returned};
use crate::task::Task;

/// An argument other than the payload can be built.
pub const fn argument<A: FromTask<Via>, Via>() {}

/// The payload holds a task, and the handler returns its output.
pub const fn handler<T: Task, R: Returned<T::Output>>() {}

/// Exactly one argument is a payload (where none has that name), and the handler returns the output of its task.
pub const fn arguments<T: Task, Args: Arguments<T, Via>, Via, R: Returned<T::Output>>() {}

/// The future of a handler is `Send`.
pub fn future<F: Future + Send>(_: F) {}

/// The same for a future returned by a function that is not async.
pub fn returned_future<T: Task, F: Future<Output: Returned<T::Output>> + Send>(_: F) {}
