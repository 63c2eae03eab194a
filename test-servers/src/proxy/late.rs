//! Requests that arrive after the client has given them up, for example when a network partition heals.

use std::{collections::VecDeque, sync::atomic::Ordering::SeqCst, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until},
};

use super::Counts;

/// How long the server may take to end a connection after everything has been delivered.
const LAST_ANSWERS: Duration = Duration::from_secs(10);

/// Delivers the client's data this much later, even after it has closed, and drops all responses.
pub(super) async fn deliver(
    client: impl AsyncRead + Unpin,
    mut server: impl AsyncWrite + Unpin,
    mut answers: impl AsyncRead + Unpin,
    after: Duration,
    counts: &Counts,
) {
    // Responses are read to the end: closing a connection with unread responses resets it, and the reset discards what
    // the server has not read yet.
    let mut sink = tokio::io::sink();
    let answers = tokio::io::copy(&mut answers, &mut sink);
    tokio::pin!(answers);
    let requests = requests(client, &mut server, after, counts);
    tokio::select! {
        () = requests => {}
        _ = &mut answers => return,
    }
    let _ = server.shutdown().await;
    let _ = tokio::time::timeout(LAST_ANSWERS, answers).await;
}

async fn requests(
    mut client: impl AsyncRead + Unpin,
    server: &mut (impl AsyncWrite + Unpin),
    after: Duration,
    counts: &Counts,
) {
    let mut held: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut is_open = true;
    while is_open || !held.is_empty() {
        let due = held.front().map_or_else(Instant::now, |(due, _)| *due);
        tokio::select! {
            read = client.read(&mut buffer), if is_open => match read {
                Ok(read @ 1..) => held.push_back((Instant::now() + after, buffer[..read].to_vec())),
                _ => is_open = false,
            },
            () = sleep_until(due), if !held.is_empty() => {
                let Some((_, bytes)) = held.pop_front() else { continue };
                if server.write_all(&bytes).await.is_err() {
                    return;
                }
                counts.late.fetch_add(1, SeqCst);
            }
        }
    }
}
