//! Errors of the application's database.

use std::{error::Error, sync::Arc};

/// The database of an outbox failed.
#[derive(Clone, thiserror::Error)]
#[error("the outbox is unavailable: {message}")]
pub struct OutboxError {
    message: String,
    #[source]
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl OutboxError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            source: None,
        }
    }

    /// Sets the underlying error, which becomes the [source](Error::source).
    #[must_use]
    pub fn caused_by(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// The message without the messages of its causes.
    pub fn message(&self) -> &str {
        &self.message
    }
}

crate::debug_as_text!(OutboxError);
