//! The derives of asynqueue.
