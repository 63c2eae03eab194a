//! The way to Redis: connections that are held, given up and made again.

use std::sync::Arc;

use asynqueue_core::BrokerError;
use redis::{Cmd, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection};
use tokio::sync::{Mutex, mpsc};

use crate::options::RedisOptions;

/// A connection to Redis that is made again when it is lost. Clones share it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    options: RedisOptions,
    client: redis::Client,
    held: Mutex<Option<MultiplexedConnection>>,
    closed: tokio_util::sync::CancellationToken,
}

/// Why a command was not carried out.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The script of an `EVALSHA` is not known: send it with `EVAL`.
    NoScript,
    /// Anything else.
    Broker(BrokerError),
}

/// A message of a channel.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) channel: String,
    pub(crate) payload: Vec<u8>,
}

impl Link {
    pub(crate) async fn open(options: RedisOptions) -> Result<Self, BrokerError> {
        let client = redis::Client::open(options.url.as_str()).map_err(unavailable)?;
        let link = Self(Arc::new(Inner {
            options,
            client,
            held: Mutex::new(None),
            closed: tokio_util::sync::CancellationToken::new(),
        }));
        Ok(link)
    }

    /// Refuses every call from now on.
    pub(crate) fn close(&self) {
        self.0.closed.cancel();
    }

    /// Refuses a call once this is closed.
    pub(crate) fn open_or_closed(&self) -> Result<(), BrokerError> {
        if self.0.closed.is_cancelled() {
            Err(BrokerError::Closed)
        } else {
            Ok(())
        }
    }

    /// What publishes a message to those who [listen](Self::listen): `PUBLISH` or `SPUBLISH`.
    pub(crate) fn publish_command(&self) -> &'static str {
        "PUBLISH"
    }

    /// Sends a command and waits for its answer. Tries again, for as long as the options say, while Redis can't be reached or asks
    /// for patience: the command may be carried out more than once.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, SendError> {
        self.open_or_closed().map_err(SendError::Broker)?;
        let mut connection = self.connection().await.map_err(SendError::Broker)?;
        connection
            .send_packed_command(command)
            .await
            .and_then(Value::extract_error)
            .map_err(|error| match error.kind() {
                redis::ErrorKind::Server(ServerErrorKind::NoScript) => SendError::NoScript,
                _ => SendError::Broker(unavailable(error)),
            })
    }

    async fn connection(&self) -> Result<MultiplexedConnection, BrokerError> {
        let mut held = self.0.held.lock().await;
        if let Some(connection) = &*held {
            return Ok(connection.clone());
        }
        let config = redis::AsyncConnectionConfig::new()
            .set_response_timeout(Some(self.0.options.response_timeout));
        let connection = self
            .0
            .client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(unavailable)?;
        *held = Some(connection.clone());
        Ok(connection)
    }

    /// The messages of these channels from now on. Ends when the connection is lost, since messages may be too.
    pub(crate) async fn listen(
        &self,
        channels: &[String],
    ) -> Result<mpsc::UnboundedReceiver<Message>, BrokerError> {
        self.open_or_closed()?;
        let closed = self.0.closed.clone();
        let mut pubsub = self
            .0
            .client
            .get_async_pubsub()
            .await
            .map_err(unavailable)?;
        pubsub.subscribe(channels).await.map_err(unavailable)?;
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            use futures_util::StreamExt;
            let mut stream = pubsub.into_on_message();
            loop {
                let message = tokio::select! {
                    message = stream.next() => message,
                    () = sender.closed() => return,
                    () = closed.cancelled() => return,
                };
                let Some(message) = message else { return };
                let message = Message {
                    channel: message.get_channel_name().to_owned(),
                    payload: message.get_payload_bytes().to_vec(),
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(messages)
    }
}

fn unavailable(error: RedisError) -> BrokerError {
    BrokerError::Unavailable(error.to_string())
}
