//! What the attribute `#[process]` asks the compiler about a function. Each of these is called with the types that the
//! function names, so that what is wrong is reported where it stands.

use std::future::Future;

use super::{FromTask, arguments::Arguments, function::Returned};
use crate::task::Task;

/// An argument beside the payload can be built.
pub const fn argument<A: FromTask<Via>, Via>() {}

/// What the payload holds is a task, and this is what its handler returns.
pub const fn handler<T: Task, R: Returned<T::Output>>() {}

/// Exactly one of the arguments is a payload, where none goes by that name, and this is what the handler of its task returns.
pub const fn arguments<T: Task, Args: Arguments<T, Via>, Via, R: Returned<T::Output>>() {}

/// The future of a handler can be sent between threads.
pub fn future<F: Future + Send>(_: F) {}

/// The same of a future that is returned by a function which is not async, and what it comes to is the result of a handler.
pub fn returned_future<T: Task, F: Future<Output: Returned<T::Output>> + Send>(_: F) {}
