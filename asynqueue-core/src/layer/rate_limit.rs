//! At most so many in a time.

use std::{sync::Arc, time::Duration};

use tower_layer::Layer;

use super::{
    BoxProcess, TaskService,
    gate::{Gate, Limit, WORTH_WAITING},
    pace::Turns,
};
use crate::{ambient, process::TaskError};

/// Starts at most `max` attempts in each `period`, in this process.
///
/// A burst of `max` starts at once, then one each `period / max`.
///
/// The server knows the limit before an attempt starts: a task over it waits in the broker, in its order, and takes
/// neither a slot nor any of its timeout. Only where a layer of another crate is composed around this one, or without a
/// server, the server cannot see the limit: an attempt whose turn is near waits for it, with its timeout running, and one
/// whose turn is far goes back to the broker until then, without counting.
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    gate: Arc<Gate>,
}

impl RateLimitLayer {
    /// At most `max` attempts, at least one, in each `period`. A period of zero is no limit.
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
            if request.context.was_let_in(&gate) {
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
                    // Spread, so that a whole backlog does not come back at the same moment.
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
