//! The ids of all tasks of a queue, without their envelopes.

use std::collections::HashSet;

use asynqueue_core::broker::BrokerError;

use super::{MAX_CHUNK_BYTES, RedisBroker, queue::Queue};
use crate::{reply, script};

/// How many tasks Redis reads in the first step.
const FIRST_STEP: u64 = 16;

/// The limit of tasks in one step.
const MOST: u64 = 500;

impl RedisBroker {
    /// Reads the ids in steps of about the same number of bytes, for tasks of any size.
    pub(super) async fn task_ids(&self, queue: &Queue) -> Result<HashSet<String>, BrokerError> {
        let (mut ids, mut cursor, mut step) = (HashSet::new(), "0".to_owned(), FIRST_STEP);
        loop {
            let hash = &queue.keys.tasks;
            let args = script::fields::Args {
                cursor,
                count: step,
            };
            let call = script::fields::call(script::fields::Keys { hash }, args);
            let mut answer = reply::array(call.send(self.link()).await?)?.into_iter();
            cursor = reply::text(reply::next(&mut answer)?)?;
            let bytes = reply::number(reply::next(&mut answer)?)?;
            let fields = reply::array(reply::next(&mut answer)?)?;
            let count = fields.len() as u64;
            for id in fields {
                ids.insert(String::from_utf8_lossy(&reply::bytes(id)?).into_owned());
            }
            if cursor == "0" {
                return Ok(ids);
            }
            step = (MAX_CHUNK_BYTES as u64 * count.max(1) / bytes.max(1)).clamp(1, MOST);
        }
    }
}
