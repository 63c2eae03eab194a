//! The broker under test, and the resources that its storage uses.

use asynqueue::{
    ConnectError, Task,
    broker::SharedBroker,
    layer::BoxError,
    redis::{RedisBroker, RedisOptions},
};

use super::{payload::Noop, processes::Processes};

/// The broker under test.
pub(super) struct Target {
    pub(super) broker: SharedBroker,
    storage: Storage,
}

/// The storage of a broker, as far as it has processes and reports its size.
enum Storage {
    Redis(RedisBroker),
    /// PostgreSQL, with its processes if they run on this machine.
    Postgres(Option<Processes>),
    /// In this process.
    Own,
}

impl Target {
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        if url.starts_with("redis") {
            let options =
                RedisOptions::new(url).map_err(asynqueue::redis::ConnectError::Options)?;
            let redis = RedisBroker::connect(options).await?;
            return Ok(Self {
                broker: redis.clone().into(),
                storage: Storage::Redis(redis),
            });
        }
        let broker = asynqueue::connect(url).await?;
        let storage = match url.starts_with("postgres") {
            true => Storage::Postgres(Processes::of(url).await),
            false => Storage::Own,
        };
        Ok(Self { broker, storage })
    }

    /// The name of the storage whose processes are measured.
    pub(super) fn storage_name(&self) -> &'static str {
        match &self.storage {
            Storage::Redis(_) => "Redis",
            Storage::Postgres(_) => "PostgreSQL",
            Storage::Own => "",
        }
    }

    /// CPU time of the storage's own processes, in seconds.
    pub(super) async fn storage_cpu(&self) -> Result<Option<f64>, BoxError> {
        match &self.storage {
            Storage::Redis(redis) => Ok(Some(redis_cpu(redis).await?)),
            Storage::Postgres(processes) => Ok(processes.as_ref().and_then(Processes::cpu)),
            Storage::Own => Ok(None),
        }
    }

    /// The size of the stored data, in bytes. `None` for a broker in this process.
    pub(super) async fn storage_bytes(&self) -> Result<Option<f64>, BoxError> {
        if !self.broker.capabilities().is_shared {
            return Ok(None);
        }
        let bytes = match &self.storage {
            // Its files also have the space of rows that were deleted.
            Storage::Postgres(_) => {
                let queue = Noop::options().queue.clone();
                self.broker.memory(&[queue]).await?.into_iter().sum()
            }
            _ => {
                let nodes = self.broker.nodes().await?;
                nodes.iter().map(|node| node.memory).sum::<Option<u64>>()
            }
        };
        Ok(bytes.map(|bytes| bytes as f64))
    }

    /// Deletes the queue. What was in memory ends with this process.
    pub(super) async fn clean_up(&self) -> Result<(), BoxError> {
        if self.broker.capabilities().is_shared {
            self.broker
                .delete_queue(&Noop::options().queue, true)
                .await?;
        }
        Ok(())
    }
}

/// CPU time of all masters, in seconds.
async fn redis_cpu(redis: &RedisBroker) -> Result<f64, BoxError> {
    let mut sum = 0.0;
    for (_, info) in redis.info("cpu").await? {
        for (field, value) in info.lines().filter_map(|line| line.split_once(':')) {
            if ["used_cpu_sys", "used_cpu_user"].contains(&field) {
                sum += value.trim().parse::<f64>()?;
            }
        }
    }
    Ok(sum)
}
