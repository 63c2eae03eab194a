//! One connection through a proxy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{
        mpsc::{UnboundedSender, unbounded_channel},
        watch,
    },
};

use super::{Counts, Fault, Plan, late};

/// What a connection needs from its proxy.
#[derive(Debug)]
pub(super) struct Link {
    number: u64,
    /// The moment when it was opened.
    opened: u64,
    plans: watch::Receiver<Plan>,
    pub(super) counts: Arc<Counts>,
    /// Whether a replica copies its master through it. If the nodes of a Cluster announce their proxies, replicas use
    /// them too. Faults belong between servers and clients: a replica that cannot follow is another kind.
    is_replica: AtomicBool,
}

/// Why a direction has ended.
enum End {
    Closed,
    /// The connection is [late](Fault::Late) by this much from now on.
    Late(std::time::Duration),
}

impl Link {
    pub(super) fn new(
        number: u64,
        opened: u64,
        plans: watch::Receiver<Plan>,
        counts: Arc<Counts>,
    ) -> Self {
        Self {
            number,
            opened,
            plans,
            counts,
            is_replica: AtomicBool::new(false),
        }
    }

    /// Forwards both directions until one of them ends.
    pub(super) async fn pass(&self, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let end = tokio::select! {
            biased;
            after = self.turns_late() => End::Late(after),
            () = self.requests(&mut from_client, &mut to_server) => End::Closed,
            () = self.answers(&mut from_server, &mut to_client) => End::Closed,
        };
        if let End::Late(after) = end {
            late::deliver(from_client, to_server, from_server, after, &self.counts).await;
        }
        // Until here, the client sees an open, silent connection.
        drop(to_client);
    }

    fn fault(&self, plan: &Plan) -> Fault {
        if self.is_replica.load(SeqCst) {
            return Fault::None;
        }
        match plan.of(self.number) {
            // It was opened later.
            Fault::Late(_) if plan.moment <= self.opened => Fault::None,
            fault => fault,
        }
    }

    fn fault_now(&self) -> Fault {
        self.fault(&self.plans.borrow())
    }

    /// Waits until this connection becomes late.
    async fn turns_late(&self) -> std::time::Duration {
        let mut plans = self.plans.clone();
        loop {
            let fault = self.fault(&plans.borrow_and_update());
            if let Fault::Late(after) = fault {
                return after;
            }
            if plans.changed().await.is_err() {
                // The proxy is gone, and its connections stay as they are.
                std::future::pending::<()>().await;
            }
        }
    }

    async fn requests(
        &self,
        client: &mut (impl AsyncRead + Unpin),
        server: &mut (impl AsyncWrite + Unpin),
    ) {
        let mut plans = self.plans.clone();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = client.read(&mut buffer).await {
            if is_handshake(&buffer[..read]) {
                self.is_replica.store(true, SeqCst);
            }
            let passes = |plan: &Plan| !matches!(self.fault(plan), Fault::Blackhole | Fault::Hold);
            let _ = plans.wait_for(passes).await;
            if server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    /// Forwards responses. Reading continues while earlier parts are delayed, so that a delay adds latency without
    /// limiting throughput.
    async fn answers(
        &self,
        server: &mut (impl AsyncRead + Unpin),
        client: &mut (impl AsyncWrite + Unpin),
    ) {
        let (parts, mut on_the_way) = unbounded_channel::<Part>();
        let reading = async {
            self.read_answers(server, parts).await;
            // Delayed parts still arrive.
            std::future::pending::<()>().await;
        };
        let arriving = async {
            while let Some(part) = on_the_way.recv().await {
                tokio::time::sleep_until(part.arrives.into()).await;
                if client.write_all(&part.bytes).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = reading => {}
            () = arriving => {}
        }
    }

    async fn read_answers(
        &self,
        server: &mut (impl AsyncRead + Unpin),
        parts: UnboundedSender<Part>,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        // A stream has no gaps: after a dropped part nothing follows, or the client would take one response for
        // another.
        let mut has_gap = false;
        while let Ok(read @ 1..) = server.read(&mut buffer).await {
            if has_gap {
                continue;
            }
            let now = Instant::now();
            let (arrives, bytes, is_last) = match self.fault_now() {
                Fault::None | Fault::Hold | Fault::Late(_) => (now, &buffer[..read], false),
                Fault::Delay(delay) => (now + delay, &buffer[..read], false),
                Fault::Throttle(bytes_per_second) => {
                    let free = self.counts.free_after(read, bytes_per_second);
                    // No more is read before.
                    tokio::time::sleep_until(free.into()).await;
                    (free, &buffer[..read], false)
                }
                Fault::CutReplies => {
                    self.counts.cuts.fetch_add(1, SeqCst);
                    (now, &buffer[..read / 2], true)
                }
                // A blackhole also loses delayed parts.
                Fault::SwallowReplies | Fault::Blackhole => {
                    has_gap = true;
                    continue;
                }
            };
            let bytes = bytes.to_vec();
            if parts.send(Part { arrives, bytes }).is_err() || is_last {
                return;
            }
        }
    }
}

/// A delayed part of a response.
struct Part {
    arrives: Instant,
    bytes: Vec<u8>,
}

/// Whether this is the handshake of a replica.
fn is_handshake(request: &[u8]) -> bool {
    let begin = &request[..request.len().min(64)];
    begin.windows(8).any(|word| word == b"REPLCONF")
}
