//! Traces: the spans, their relations and their content.

mod harness;
mod logs;
mod sampling;
mod tree;
