//! Runs the observability example with a trace collector and a real Prometheus.

mod collector;
mod prometheus;
mod shop;
mod traces;
