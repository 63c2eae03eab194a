//! Limiting how many attempts start in a period.

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    BoxProcess, TaskService,
    gate::{Gate, Limit, WORTH_WAITING},
    pace::Turns,
};
use crate::{ambient, process::TaskError};

/// Starts `max` attempts in each `period` on average, in this process. Retries count like first attempts.
///
/// A burst of `max` attempts starts immediately, then one every `period / max`. So up to twice `max` attempts start in the
/// first `period` after a pause.
///
/// The server checks the limit before an attempt starts. A task over it waits in the broker, in its order, and takes
/// neither a slot nor any of its timeout. The server cannot see the limit if a layer of another crate is composed
/// around this one. Then, and without a server, an attempt whose turn is near waits for it, while its timeout runs;
/// other tasks return to the broker until their turn, without counting an attempt.
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    gate: Arc<Gate>,
}

impl RateLimitLayer {
    /// Allows `max` attempts, at least one, in each `period` on average. With a period of zero there is no limit.
    pub fn new(max: u32, period: Duration) -> Self {
        Self {
            gate: Gate::new(Limit::PerTime(Turns::new(max, period))),
        }
    }
}

impl<S: TaskService> Layer<S> for RateLimitLayer {
    type Service = BoxProcess;

    fn layer(&self, inner: S) -> BoxProcess {
        let inner = inner.boxed();
        let gates = inner.gates().within(&self.gate);
        let gate = Arc::clone(&self.gate);
        BoxProcess::from_fn(move |request| {
            let Limit::PerTime(turns) = gate.limit() else {
                return inner.run(request);
            };
            if request.context.has_passed(&gate) {
                return inner.run(request);
            }
            let (inner, turn, far) = (
                inner.clone(),
                turns.take_within(WORTH_WAITING),
                turns.wait(),
            );
            Box::pin(async move {
                match turn {
                    Some(Duration::ZERO) => {}
                    Some(wait) => tokio::time::sleep(wait).await,
                    // Jitter, so that a large backlog does not come back all in one moment.
                    None => {
                        return Err(TaskError::snooze(
                            far.mul_f64(1.0 + ambient::random::<f64>()),
                        ));
                    }
                }
                inner.run(request).await
            })
        })
        .behind(gates)
    }
}
