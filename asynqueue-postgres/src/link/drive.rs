//! Drives a connection, and passes its notifications on.

use std::future::poll_fn;

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc::UnboundedSender,
};
use tokio_postgres::{AsyncMessage, Connection};

/// Where the payloads of notifications go. None for a connection that does not listen.
pub(crate) type Hear = Option<UnboundedSender<String>>;

/// Drives a connection until it is closed or lost, which its calls report.
pub(crate) async fn drive<S, T>(mut connection: Connection<S, T>, hear: Hear)
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        match message {
            Ok(AsyncMessage::Notification(notification)) => {
                if let Some(hear) = &hear {
                    // Fails once nobody listens.
                    let _ = hear.send(notification.payload().to_owned());
                }
            }
            Ok(AsyncMessage::Notice(notice)) => {
                tracing::debug!(message = notice.message(), "PostgreSQL sent a notice");
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection to PostgreSQL was lost");
                return;
            }
        }
    }
}
