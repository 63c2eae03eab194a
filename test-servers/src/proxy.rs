//! A proxy that breaks connections.

mod late;
mod pass;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use self::pass::Link;

/// What a proxy does to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Each part of a response is delayed by this much.
    Delay(Duration),
    /// All responses share this many bytes per second.
    Throttle(u64),
    /// Requests are delivered, and each connection is cut in the middle of its next response.
    CutReplies,
    /// Requests are delivered, and responses never arrive: a connection that has lost one gets no later one either.
    SwallowReplies,
    /// Nothing is delivered, and connections stay open.
    Blackhole,
    /// Requests wait until the fault changes or ends, and are then delivered in order. Responses are delivered.
    Hold,
    /// The connections that are open now are dead to the client: responses are dropped, and requests are delivered this
    /// much later, even if the client has closed the connection and sent them again on another. Later connections have
    /// no fault.
    Late(Duration),
}

/// The behaviour of a proxy from some moment on, and the number of that moment.
#[derive(Clone, Debug)]
struct Plan {
    moment: u64,
    faults: Choice,
}

#[derive(Clone, Debug)]
enum Choice {
    All(Fault),
    /// Each connection has one of these, by its number and this seed.
    Each(u64, Arc<[Fault]>),
}

impl Plan {
    /// The fault of a connection, by number.
    fn of(&self, connection: u64) -> Fault {
        match &self.faults {
            Choice::All(fault) => *fault,
            Choice::Each(seed, faults) => {
                let place = mixed(seed ^ mixed(connection)) % faults.len().max(1) as u64;
                faults.get(place as usize).copied().unwrap_or(Fault::None)
            }
        }
    }
}

/// Maps close numbers to distant ones (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How often faults have occurred.
#[derive(Debug, Default)]
struct Counts {
    cuts: AtomicU64,
    late: AtomicU64,
    open: AtomicUsize,
    /// When a [throttled](Fault::Throttle) link is free again.
    free: Mutex<Option<Instant>>,
}

impl Counts {
    /// When this many more bytes have passed.
    fn free_after(&self, bytes: usize, bytes_per_second: u64) -> Instant {
        let takes = Duration::from_micros(bytes as u64 * 1_000_000 / bytes_per_second);
        let mut free = self.free.lock().unwrap();
        let now = Instant::now();
        let after = free.map_or(now, |free| free.max(now)) + takes;
        *free = Some(after);
        after
    }
}

/// A TCP proxy in front of a server.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    plan: watch::Sender<Plan>,
    counts: Arc<Counts>,
}

impl Proxy {
    /// Starts a proxy in front of a local port.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (plan, plans) = watch::channel(Plan {
            moment: 0,
            faults: Choice::All(Fault::None),
        });
        let counts = Arc::new(Counts::default());
        let counted = Arc::clone(&counts);
        tokio::spawn(async move {
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                number += 1;
                let opened = plans.borrow().moment;
                let (plans, counts) = (plans.clone(), Arc::clone(&counted));
                let link = Link::new(number, opened, plans, counts);
                tokio::spawn(async move {
                    link.counts.open.fetch_add(1, SeqCst);
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                        // Otherwise small parts would wait for each other, which does not belong to any fault.
                        let _ = (client.set_nodelay(true), server.set_nodelay(true));
                        link.pass(client, server).await;
                    }
                    link.counts.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { port, plan, counts }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the fault of all connections from now on.
    pub fn set(&self, fault: Fault) {
        self.plan(Choice::All(fault));
    }

    /// Sets one of these faults for each connection from now on, by the number of the connection and a seed. The same
    /// seed makes the same choice.
    pub fn set_each(&self, seed: u64, faults: &[Fault]) {
        self.plan(Choice::Each(seed, faults.into()));
    }

    fn plan(&self, faults: Choice) {
        self.plan.send_modify(|plan| {
            plan.moment += 1;
            plan.faults = faults;
        });
    }

    /// How many connections it has cut in the middle of a response.
    pub fn cuts(&self) -> u64 {
        self.counts.cuts.load(SeqCst)
    }

    /// How many pieces of requests it has delivered [late](Fault::Late).
    pub fn late(&self) -> u64 {
        self.counts.late.load(SeqCst)
    }

    /// How many connections are open through it.
    pub fn open(&self) -> usize {
        self.counts.open.load(SeqCst)
    }
}
