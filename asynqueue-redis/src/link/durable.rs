//! Calls that wait until replicas or the disk have stored their change.
//!
//! `WAIT` and `WAITAOF` apply to earlier changes on the same connection, and block it. So such a call has a separate
//! connection while it runs, and sends both commands together: in a Cluster, a `WAIT` sent by itself could reach
//! another master after a failover, which would have nothing to wait for.

use std::{sync::Arc, time::Duration};

use asynqueue_core::broker::Durability;
use parking_lot::Mutex;
use redis::{
    Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value,
    cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr},
};
use tokio::sync::Semaphore;

use super::{connection::Connection, error::is_unusable, io, target::Target};
use crate::options::{OptionsError, RedisOptions};

/// The limit of concurrent calls. Each connection stays open for the next call.
const MOST: usize = 8;

/// Connections for such calls, opened when needed.
pub(super) struct DurableCalls {
    target: Arc<Target>,
    /// How long replicas or the disk may take.
    patience: Duration,
    free: Mutex<Vec<Connection>>,
    places: Semaphore,
}

/// A response, and what is missing for the requested durability.
pub(super) type Answer = (Value, Option<String>);

impl DurableCalls {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, OptionsError> {
        // The response arrives after the wait.
        let options = options.clone();
        let patience = options.response_timeout.max(Duration::from_millis(1));
        let timeout = patience.saturating_mul(2);
        Ok(Self {
            target: Arc::new(Target::new(&options.response_timeout(timeout))?),
            patience,
            free: Mutex::default(),
            places: Semaphore::new(MOST),
        })
    }

    pub(super) async fn send(&self, command: &Cmd, durability: Durability) -> RedisResult<Answer> {
        let place = self.places.acquire().await;
        let _place = place.map_err(std::io::Error::other)?;
        let connection = self.connection().await?;
        let mut pipeline = redis::pipe();
        pipeline.add_command(command.clone());
        pipeline.add_command(self.wait_for(durability));
        let sent = connection.send_pipeline(command, pipeline).await;
        let answer = sent.and_then(|answers| self.read(answers, durability));
        match &answer {
            // The other connections may lead to the same server, which is no longer the master.
            Err(error) if is_unusable(error) => self.free.lock().clear(),
            _ => self.free.lock().push(connection),
        }
        answer
    }

    async fn connection(&self) -> RedisResult<Connection> {
        if let Some(free) = self.free.lock().pop() {
            return Ok(free);
        }
        let target = Arc::clone(&self.target);
        io::run(async move { target.connect().await }).await?
    }

    fn wait_for(&self, durability: Durability) -> Cmd {
        let millis = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        let mut command = match durability {
            Durability::Fsync => redis::cmd("WAITAOF"),
            _ => redis::cmd("WAIT"),
        };
        match durability {
            Durability::Fsync => command.arg(1).arg(0),
            other => command.arg(replicas(other)),
        };
        command.arg(millis);
        command
    }

    fn read(&self, answers: Vec<Value>, durability: Durability) -> RedisResult<Answer> {
        let mut answers = answers.into_iter();
        let (Some(answer), Some(waited)) = (answers.next(), answers.next()) else {
            return Err((ErrorKind::Parse, "fewer responses than commands").into());
        };
        let answer = answer.extract_error()?;
        let missing = match waited.extract_error() {
            Ok(Value::Int(found)) if found >= i64::from(replicas(durability)) => None,
            Ok(Value::Int(found)) => {
                let wanted = replicas(durability);
                Some(format!("{found} of {wanted} replicas have the change"))
            }
            Ok(Value::Array(found)) => match found.first() {
                Some(Value::Int(1..)) => None,
                _ => {
                    Some("the change is not on disk, and never is with `appendfsync no`".to_owned())
                }
            },
            Ok(other) => Some(format!("unexpected response {other:?}")),
            Err(error) if error.to_string().contains("appendonly") => {
                Some("Redis has no append-only file: set `appendonly yes`".to_owned())
            }
            Err(error) => return Err(error),
        };
        let patience = self.patience;
        let missing = missing.map(|missing| {
            format!(
                "{missing} after {patience:?} (durability `{durability}`): the call is safe to repeat, with the same task ids"
            )
        });
        Ok((answer, missing))
    }
}

fn replicas(durability: Durability) -> u32 {
    match durability {
        Durability::Replicas(replicas) => replicas,
        _ => 0,
    }
}

impl Connection {
    /// Sends commands back to back, to the node of the first.
    async fn send_pipeline(&self, first: &Cmd, pipeline: Pipeline) -> RedisResult<Vec<Value>> {
        match self.clone() {
            Self::Node(mut node) => {
                let count = pipeline.len();
                node.send_packed_commands(&pipeline, 0, count).await
            }
            Self::Cluster(mut cluster) => {
                let count = pipeline.len();
                let route = route_of(first)?;
                cluster.route_pipeline(pipeline, 0, count, route).await
            }
        }
    }
}

/// The master of a script's keys, which all have the same hash tag.
fn route_of(script: &Cmd) -> Result<SingleNodeRoutingInfo, RedisError> {
    let tag = script.args_iter().nth(FIRST_KEY).and_then(|key| match key {
        Arg::Simple(key) => {
            let begin = key.iter().position(|byte| *byte == b'{')? + 1;
            let length = key[begin..].iter().position(|byte| *byte == b'}')?;
            Some(&key[begin..][..length])
        }
        _ => None,
    });
    let tag = tag.ok_or((
        ErrorKind::Client,
        "the command does not belong to a single node",
    ))?;
    let slot = crc16::State::<crc16::XMODEM>::calculate(tag) % SLOTS;
    let route = Route::new(slot, SlotAddr::Master);
    Ok(SingleNodeRoutingInfo::SpecificNode(route))
}

/// Follows `EVALSHA`, the script and the number of keys.
const FIRST_KEY: usize = 3;

/// The number of slots in a Cluster.
const SLOTS: u16 = 16_384;
