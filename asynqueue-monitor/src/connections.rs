//! The connections of an endpoint. Their number and the time until a request is complete are limited, because they use
//! file descriptors of the program before anyone has logged in.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::connect_info::ConnectInfo, middleware::AddExtension};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

/// The limits of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many connections may be open. Further ones wait in the queue of the operating system.
    pub(crate) connections: usize,
    /// How long a connection may be open without a complete head of a request. It also limits how long it is kept
    /// between two requests.
    pub(crate) head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            head: Duration::from_secs(30),
        }
    }
}

/// Serves a router until `stop`, and then until the open responses have ended. Closes all connections when dropped.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let mut services = router.into_make_service_with_connect_info::<SocketAddr>();
    let free = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // Nothing closes the semaphore.
            let permit = Arc::clone(&free).acquire_owned().await.ok();
            (permit, accept(&listener).await)
        };
        let (permit, (stream, peer)) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accepted => accepted,
        };
        let service = match services.call(peer).await {
            Ok(service) => service,
            Err(never) => match never {},
        };
        let stop = stop.clone();
        connections.spawn(async move {
            connection(stream, service, limits, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// The next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_peer(&error) => {}
            Err(error) => {
                tracing::error!(%error, "could not accept a connection; retrying in a second");
                // Such as too many open files. Without a pause, this would use a core until one is closed.
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Whether a connection ended before it was accepted.
fn is_of_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

async fn connection(
    stream: TcpStream,
    service: AddExtension<Router, ConnectInfo<SocketAddr>>,
    limits: Limits,
    stop: CancellationToken,
) {
    // Without Nagle's algorithm, small responses leave immediately.
    let _ = stream.set_nodelay(true);
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut serving = pin!(serving);
    // The peer causes the errors: it disconnects, or it does not send a request.
    tokio::select! {
        _ = &mut serving => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// An endpoint that stops with its guard.
    async fn endpoint(limits: Limits) -> (SocketAddr, tokio_util::sync::DropGuard) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(async || "ok"));
        tokio::spawn(serve(listener, router, limits, stop.clone()));
        (address, stop.drop_guard())
    }

    /// What the endpoint sends until it closes the connection.
    async fn received(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        let read = stream.read_to_string(&mut text);
        let in_time = tokio::time::timeout(Duration::from_secs(30), read).await;
        let read = in_time.expect("the connection is closed");
        // A connection that is closed with unread bytes is reset.
        read.map(|_| text).unwrap_or_default()
    }

    async fn open(address: SocketAddr, sends: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream.write_all(sends.as_bytes()).await.expect("sent");
        stream
    }

    const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[tokio::test]
    async fn a_connection_without_a_complete_request_is_closed() {
        // Long enough to send a request on a busy machine.
        let head = Duration::from_millis(500);
        let (address, _stops) = endpoint(Limits {
            head,
            ..Limits::default()
        })
        .await;
        for sends in ["", "GET / HTTP/1.1\r\n", REQUEST] {
            let mut stream = open(address, sends).await;
            let answered = received(&mut stream).await.starts_with("HTTP/1.1 200");
            assert_eq!(answered, sends == REQUEST, "{sends}");
        }
    }

    #[tokio::test]
    async fn a_connection_above_the_limit_waits_until_another_is_closed() {
        let (address, _stops) = endpoint(Limits {
            connections: 2,
            ..Limits::default()
        })
        .await;
        let held = [open(address, "").await, open(address, "").await];
        let closing = REQUEST.replace("host", "connection: close\r\nhost");
        let mut waiting = open(address, &closing).await;
        let mut first = [0];
        let early = tokio::time::timeout(Duration::from_millis(200), waiting.peek(&mut first));
        assert!(early.await.is_err(), "a third connection is served");
        drop(held);
        assert!(received(&mut waiting).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_response_ends_after_the_endpoint_was_stopped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let slow = async move || {
            stopping.cancel();
            tokio::task::yield_now().await;
            "ok"
        };
        let router = Router::new().route("/", get(slow));
        let serving = tokio::spawn(serve(listener, router, Limits::default(), stop));
        let mut stream = open(address, REQUEST).await;
        assert!(received(&mut stream).await.ends_with("ok"));
        serving.await.expect("it has stopped");
    }
}
