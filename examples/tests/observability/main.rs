//! Runs the example of observability as an operator would: with a collector of traces and a real Prometheus.

mod collector;
mod prometheus;
mod shop;
mod traces;
