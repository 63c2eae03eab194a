//! Calls that wait until replicas or the disk have what they changed.
//!
//! `WAIT` and `WAITAOF` stand for the changes that came before them by the same connection, and hold it up. So such a call has a
//! connection to itself for as long as it lasts, and sends both in one go: on a Cluster, what follows it by itself could reach another
//! master after a failover, which would have nothing to wait for.

use std::{sync::Arc, time::Duration};

use asynqueue_core::broker::Durability;
use parking_lot::Mutex;
use redis::{
    Arg, Cmd, ErrorKind, Pipeline, RedisError, RedisResult, Value,
    cluster_routing::{Route, SingleNodeRoutingInfo, SlotAddr},
};
use tokio::sync::Semaphore;

use super::{connection::Connection, error::is_of_no_use, io, target::Target};
use crate::options::{OptionsError, RedisOptions};

/// The most such calls at a time, each by a connection that stays open for the next.
const MOST: usize = 8;

/// Connections for such calls, made when they are needed.
pub(super) struct DurableCalls {
    target: Arc<Target>,
    /// How long replicas or the disk may take.
    patience: Duration,
    free: Mutex<Vec<Connection>>,
    places: Semaphore,
}

/// An answer, and what is missing for the durability that was asked for, if anything is.
pub(super) type Answer = (Value, Option<String>);

impl DurableCalls {
    pub(super) fn new(options: &RedisOptions) -> Result<Self, OptionsError> {
        // An answer comes after the wait.
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
            // Others may lead to the same server, which is not the master any more.
            Err(error) if is_of_no_use(error) => self.free.lock().clear(),
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
            return Err((ErrorKind::Parse, "fewer answers than commands").into());
        };
        let answer = answer.extract_error()?;
        let missing = match waited.extract_error() {
            Ok(Value::Int(found)) if found >= i64::from(replicas(durability)) => None,
            Ok(Value::Int(found)) => {
                let wanted = replicas(durability);
                Some(format!("{found} of {wanted} replicas have it"))
            }
            Ok(Value::Array(found)) => match found.first() {
                Some(Value::Int(1..)) => None,
                _ => {
                    Some("the disk does not have it; with `appendfsync no` it never has".to_owned())
                }
            },
            Ok(other) => Some(format!("an unexpected answer: {other:?}")),
            Err(error) if error.to_string().contains("appendonly") => {
                Some("there is no file to write it to: set `appendonly yes`".to_owned())
            }
            Err(error) => return Err(error),
        };
        let patience = self.patience;
        let missing = missing.map(|missing| {
            format!(
                "{missing} after {patience:?} (durability `{durability}`): it is safe to repeat, a task under the same id"
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
    /// Sends commands one right behind the other to where the first belongs.
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

/// The master of the keys of a script, all of which have one hash tag.
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
        "a command that belongs to no single node",
    ))?;
    let slot = crc16::State::<crc16::XMODEM>::calculate(tag) % SLOTS;
    let route = Route::new(slot, SlotAddr::Master);
    Ok(SingleNodeRoutingInfo::SpecificNode(route))
}

/// `EVALSHA`, the script and the number of keys come before it.
const FIRST_KEY: usize = 3;

/// The slots of every Cluster.
const SLOTS: u16 = 16_384;
