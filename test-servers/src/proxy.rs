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
    /// Each part of an answer comes this much later.
    Delay(Duration),
    /// All answers together come at so many bytes a second.
    Throttle(u64),
    /// Requests go through, and each connection is cut in the middle of its next answer.
    CutReplies,
    /// Requests go through, and answers never come: on a connection that has lost one, none comes later either.
    SwallowReplies,
    /// Nothing goes through, and connections stay open.
    Blackhole,
    /// Requests wait until there is another fault or none, and then go through in their order; answers pass.
    Hold,
    /// The connections that are open now are dead to the client from now on: answers are dropped, and what the client sends is
    /// delivered this much later, even if it has closed the connection and sent the same by another. Connections that are opened
    /// later are as without a fault.
    Late(Duration),
}

/// What a proxy does from some moment on, and the number of the moment.
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
    /// The fault of a connection by its number.
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

/// Spreads numbers that are close to one another (the finalizer of SplitMix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How often faults have struck.
#[derive(Debug, Default)]
struct Counts {
    cuts: AtomicU64,
    late: AtomicU64,
    open: AtomicUsize,
    /// When a link that is [throttled](Fault::Throttle) is free for more.
    free: Mutex<Option<Instant>>,
}

impl Counts {
    /// When so many bytes more have passed.
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
    /// Starts one in front of a port of this machine.
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
                        // Else small parts wait for one another, which is no part of any fault.
                        let _ = (client.set_nodelay(true), server.set_nodelay(true));
                        link.pass(client, server).await;
                    }
                    link.counts.open.fetch_sub(1, SeqCst);
                });
            }
        });
        Self { port, plan, counts }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Does this from now on, to all connections.
    pub fn set(&self, fault: Fault) {
        self.plan(Choice::All(fault));
    }

    /// Does one of these to each connection from now on, by the number of the connection and a seed: the same seed chooses
    /// the same.
    pub fn set_each(&self, seed: u64, faults: &[Fault]) {
        self.plan(Choice::Each(seed, faults.into()));
    }

    fn plan(&self, faults: Choice) {
        self.plan.send_modify(|plan| {
            plan.moment += 1;
            plan.faults = faults;
        });
    }

    /// How many connections it has cut in the middle of an answer.
    pub fn cuts(&self) -> u64 {
        self.counts.cuts.load(SeqCst)
    }

    /// How many pieces of requests it has delivered [late](Fault::Late).
    pub fn late(&self) -> u64 {
        self.counts.late.load(SeqCst)
    }

    /// How many connections go through it.
    pub fn open(&self) -> usize {
        self.counts.open.load(SeqCst)
    }
}
