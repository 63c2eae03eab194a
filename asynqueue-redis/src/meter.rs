//! The metrics of this broker, with the feature `metrics`.

#[cfg(feature = "metrics")]
mod on {
    use metrics::{counter, describe_counter};

    /// Registers the counters, so that they exist before the first event.
    pub(crate) fn register() {
        describe_counter!(
            "asynqueue_redis_reconnects_total",
            "Connections to Redis re-established after a loss"
        );
        describe_counter!(
            "asynqueue_redis_script_errors_total",
            "Scripts that Redis refused or aborted"
        );
        counter!("asynqueue_redis_reconnects_total").increment(0);
    }

    pub(crate) fn reconnected() {
        counter!("asynqueue_redis_reconnects_total").increment(1);
    }

    pub(crate) fn script_failed(script: &str) {
        counter!("asynqueue_redis_script_errors_total", "script" => script.to_owned()).increment(1);
    }
}

#[cfg(not(feature = "metrics"))]
mod on {
    pub(crate) fn register() {}

    pub(crate) fn reconnected() {}

    pub(crate) fn script_failed(_: &str) {}
}

pub(crate) use on::{reconnected, register, script_failed};
