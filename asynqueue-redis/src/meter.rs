//! What this broker tells the recorder of the `metrics` facade, where the feature `metrics` is on.

#[cfg(feature = "metrics")]
mod on {
    use metrics::{counter, describe_counter};

    /// Lets the counters be there before the first event.
    pub(crate) fn begin() {
        describe_counter!(
            "asynqueue_redis_reconnects_total",
            "Connections to Redis that were made anew after one was lost"
        );
        describe_counter!(
            "asynqueue_redis_script_errors_total",
            "Scripts that Redis refused or broke off"
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
    pub(crate) fn begin() {}

    pub(crate) fn reconnected() {}

    pub(crate) fn script_failed(_: &str) {}
}

pub(crate) use on::{begin, reconnected, script_failed};
