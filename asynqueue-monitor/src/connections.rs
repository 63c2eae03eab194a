//! The connections of an endpoint. Their number and the time until a request is complete are limited, because they use
//! file descriptors of the program before anyone has logged in. At the limit, the connection that has been without a
//! request for longest is closed, so that a stranger who holds connections does not keep users out.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, HttpBody},
    extract::connect_info::ConnectInfo,
    middleware::AddExtension,
};
use hyper::{
    body::{Bytes, Frame, SizeHint},
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;

/// The pause between two attempts to find a connection without a request.
const RETRY: Duration = Duration::from_millis(100);

/// The limits of an endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// How many connections may be open. A further one takes the place of one without a request. If all have one, it
    /// waits.
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
    let mut seats: Vec<Arc<Seat>> = Vec::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener) => accepted,
        };
        let permit = tokio::select! {
            () = stop.cancelled() => break,
            permit = admitted(&free, &mut seats) => permit,
        };
        let service = match services.call(peer).await {
            Ok(service) => service,
            Err(never) => match never {},
        };
        let seat = Arc::new(Seat::default());
        seats.push(Arc::clone(&seat));
        let stop = stop.clone();
        connections.spawn(async move {
            connection(stream, service, limits, &seat, stop).await;
            drop(permit);
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A permit for another connection. While there is none, it closes connections without a request, one after the other.
async fn admitted(
    free: &Arc<Semaphore>,
    seats: &mut Vec<Arc<Seat>>,
) -> Option<OwnedSemaphorePermit> {
    loop {
        if let Ok(permit) = Arc::clone(free).try_acquire_owned() {
            return Some(permit);
        }
        seats.retain(|seat| Arc::strong_count(seat) > 1 && !seat.close.is_cancelled());
        let idle = seats
            .iter()
            .filter_map(|seat| Some((seat.idle_since()?, seat)));
        if let Some((_, seat)) = idle.min_by_key(|(since, _)| *since) {
            seat.close.cancel();
        }
        // One that has a request may end it without closing.
        let freed = Arc::clone(free).acquire_owned();
        if let Ok(permit) = tokio::time::timeout(RETRY, freed).await {
            // Nothing closes the semaphore.
            return permit.ok();
        }
    }
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
    seat: &Arc<Seat>,
    stop: CancellationToken,
) {
    // Without Nagle's algorithm, small responses leave immediately.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(service);
    let service = service_fn(|request| {
        let busy = Busy::of(seat);
        let response = service.call(request);
        async { Ok::<_, Infallible>(response.await?.map(|body| Responding { body, _busy: busy })) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .serve_connection(TokioIo::new(stream), service);
    let mut serving = pin!(serving);
    // The peer causes the errors: it disconnects, or it does not send a request.
    tokio::select! {
        _ = &mut serving => return,
        () = seat.close.cancelled() => return,
        () = stop.cancelled() => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// What the other connections see of one.
#[derive(Debug)]
struct Seat {
    /// Since when it has no request. `None` while it has one.
    idle: Mutex<Option<Instant>>,
    close: CancellationToken,
}

impl Default for Seat {
    fn default() -> Self {
        Self {
            idle: Mutex::new(Some(Instant::now())),
            close: CancellationToken::new(),
        }
    }
}

impl Seat {
    fn idle_since(&self) -> Option<Instant> {
        *self.idle.lock()
    }
}

/// A request of a connection, until its response has ended.
#[derive(Debug)]
struct Busy(Arc<Seat>);

impl Busy {
    fn of(seat: &Arc<Seat>) -> Self {
        *seat.idle.lock() = None;
        Self(Arc::clone(seat))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *self.0.idle.lock() = Some(Instant::now());
    }
}

/// The body of a response. Until it ends, its connection has a request.
struct Responding {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Responding {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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

    /// Sends a request, and receives its response.
    async fn request(stream: &mut TcpStream) {
        stream.write_all(REQUEST.as_bytes()).await.expect("sent");
        let mut text = String::new();
        while !text.ends_with("ok") {
            let mut part = [0; 1_000];
            let read = tokio::time::timeout(Duration::from_secs(30), stream.read(&mut part)).await;
            let read = read.expect("a response").expect("read");
            assert!(read > 0, "closed after {text:?}");
            text += std::str::from_utf8(&part[..read]).expect("UTF-8");
        }
    }

    #[tokio::test]
    async fn a_connection_above_the_limit_takes_the_place_of_the_one_without_a_request_for_longest()
    {
        let (address, _stops) = endpoint(Limits {
            connections: 2,
            ..Limits::default()
        })
        .await;
        let (mut first, mut second) = (open(address, "").await, open(address, "GET / HT").await);
        request(&mut first).await;
        let mut third = open(address, "").await;
        request(&mut third).await;
        assert_eq!(
            received(&mut second).await,
            "",
            "it was without a request for longest"
        );
        request(&mut first).await;
        request(&mut third).await;
    }

    /// Such as the updates of an open page.
    #[tokio::test]
    async fn a_response_in_progress_is_not_closed_for_another_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<&str>();
        let receiver = Arc::new(Mutex::new(Some(receiver)));
        let stream = async move || {
            let receiver = receiver.lock().take().expect("one request");
            let parts = futures_util::stream::unfold(receiver, async |mut receiver| {
                let part = receiver.recv().await?;
                Some((Ok::<_, Infallible>(part), receiver))
            });
            Body::from_stream(parts)
        };
        let router = Router::new().route("/", get(stream));
        let limits = Limits {
            connections: 1,
            ..Limits::default()
        };
        tokio::spawn(serve(listener, router, limits, stop.clone()));
        let _stops = stop.drop_guard();
        let closing = REQUEST.replace("host", "connection: close\r\nhost");
        let mut updates = open(address, &closing).await;
        sender.send("first").expect("received");
        let mut head = [0; 12];
        updates.read_exact(&mut head).await.expect("a response");
        let waiting = open(address, REQUEST).await;
        let mut first = [0];
        let early = tokio::time::timeout(Duration::from_millis(300), waiting.peek(&mut first));
        assert!(early.await.is_err(), "it is served beyond the limit");
        sender.send("last").expect("received");
        drop(sender);
        assert!(received(&mut updates).await.contains("last"));
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
