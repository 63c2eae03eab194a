//! Times and counts attempts.

use tower_layer::Layer;

use super::{BoxProcess, TaskService};
use crate::metrics::Measured;

/// Tells the recorder of the [`metrics`](crate::metrics) facade how long each attempt has waited and takes, and how many go on.
///
/// The server has it around every process and its layers.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricsLayer;

impl<S: TaskService> Layer<S> for MetricsLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let inner = inner.boxed();
        BoxProcess::from_fn(move |request| {
            let measured = Measured::begin(&request.context);
            let attempt = inner.run(request);
            Box::pin(async move {
                // Told when this is dropped, whether the attempt has ended or was given up.
                let _measured = measured;
                attempt.await
            })
        })
    }
}
