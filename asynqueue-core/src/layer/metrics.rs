//! Measuring attempts.

use tower_layer::Layer;

use super::{BoxProcess, TaskService};
use crate::metrics::Measured;

/// Records, with the [`metrics`](crate::metrics) facade, how long each attempt waited and ran, and how many are
/// running.
///
/// The server applies it around every handler and its layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricsLayer;

impl<S: TaskService> Layer<S> for MetricsLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let inner = inner.boxed();
        BoxProcess::from_fn(move |request| {
            let measured = Measured::start(&request.context);
            let attempt = inner.run(request);
            Box::pin(async move {
                // Recorded on drop, so that an abandoned attempt counts too.
                let _measured = measured;
                attempt.await
            })
        })
    }
}
