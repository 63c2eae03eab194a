//! The broker under test, and the resources that its storage uses.

use asynqueue::{
    ConnectError, Task,
    broker::SharedBroker,
    layer::BoxError,
    redis::{RedisBroker, RedisOptions},
};

use super::payload::Noop;

/// The broker under test.
pub(super) struct Target {
    pub(super) broker: SharedBroker,
    redis: Option<RedisBroker>,
}

impl Target {
    pub(super) async fn connect(url: &str) -> Result<Self, ConnectError> {
        if !url.starts_with("redis") {
            let broker = asynqueue::connect(url).await?;
            return Ok(Self {
                broker,
                redis: None,
            });
        }
        let options = RedisOptions::new(url).map_err(asynqueue::redis::ConnectError::Options)?;
        let redis = RedisBroker::connect(options).await?;
        Ok(Self {
            broker: redis.clone().into(),
            redis: Some(redis),
        })
    }

    /// CPU time of the storage's own processes, in seconds.
    pub(super) async fn storage_cpu(&self) -> Result<Option<f64>, BoxError> {
        self.sum("cpu", &["used_cpu_sys", "used_cpu_user"]).await
    }

    /// The size of the stored data, in bytes. `None` for a broker in this process.
    pub(super) async fn storage_bytes(&self) -> Result<Option<f64>, BoxError> {
        if !self.broker.capabilities().is_shared {
            return Ok(None);
        }
        let nodes = self.broker.nodes().await?;
        let bytes = nodes.iter().map(|node| node.memory);
        Ok(bytes.sum::<Option<u64>>().map(|bytes| bytes as f64))
    }

    async fn sum(&self, section: &str, fields: &[&str]) -> Result<Option<f64>, BoxError> {
        let Some(redis) = &self.redis else {
            return Ok(None);
        };
        let mut sum = 0.0;
        for (_, info) in redis.info(section).await? {
            for (field, value) in info.lines().filter_map(|line| line.split_once(':')) {
                if fields.contains(&field) {
                    sum += value.trim().parse::<f64>()?;
                }
            }
        }
        Ok(Some(sum))
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
