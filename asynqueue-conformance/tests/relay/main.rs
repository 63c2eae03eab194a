//! Relays from an outbox in memory: each task is accepted once and in order, wherever a relay dies, and an entry or a
//! queue that fails holds up no other.

mod deaths;
mod failing;
mod gate;
mod stage;
mod turns;
