//! Traces: which spans there are, how they belong together, and what they say.

mod harness;
mod logs;
mod sampling;
mod tree;
