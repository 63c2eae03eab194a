//! A proxy that breaks connections.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

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
    /// Requests go through, and answers never come.
    SwallowReplies,
    /// Nothing goes through, and connections stay open.
    Blackhole,
}

/// A TCP proxy in front of a server.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    fault: watch::Sender<Fault>,
    cuts: Arc<AtomicU64>,
    open: Arc<AtomicUsize>,
}

impl Proxy {
    /// Starts one in front of a port of this machine.
    pub async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (fault, faults) = watch::channel(Fault::None);
        let (cuts, open) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicUsize::new(0)));
        let (counted, opened) = (Arc::clone(&cuts), Arc::clone(&open));
        let link = Arc::new(Mutex::new(Instant::now()));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (faults, counted, opened) =
                    (faults.clone(), Arc::clone(&counted), Arc::clone(&opened));
                let link = Arc::clone(&link);
                tokio::spawn(async move {
                    opened.fetch_add(1, SeqCst);
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await {
                        pass(client, server, faults, counted, link).await;
                    }
                    opened.fetch_sub(1, SeqCst);
                });
            }
        });
        Self {
            port,
            fault,
            cuts,
            open,
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Does this from now on, to all connections.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// How many connections it has cut in the middle of an answer.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(SeqCst)
    }

    /// How many connections go through it.
    pub fn open(&self) -> usize {
        self.open.load(SeqCst)
    }
}

async fn pass(
    client: TcpStream,
    server: TcpStream,
    faults: watch::Receiver<Fault>,
    cuts: Arc<AtomicU64>,
    link: Arc<Mutex<Instant>>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut fault = faults.clone();
    let requests = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
            let _ = fault.wait_for(|fault| *fault != Fault::Blackhole).await;
            if to_server.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    let answers = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
            let fault = *faults.borrow();
            match fault {
                Fault::None => {}
                Fault::Delay(delay) => tokio::time::sleep(delay).await,
                Fault::Throttle(bytes_per_second) => {
                    let takes = Duration::from_micros(read as u64 * 1_000_000 / bytes_per_second);
                    let free = {
                        let mut free = link.lock().unwrap();
                        *free = Instant::now().max(*free) + takes;
                        *free
                    };
                    tokio::time::sleep_until(free.into()).await;
                }
                Fault::CutReplies => {
                    let _ = to_client.write_all(&buffer[..read / 2]).await;
                    cuts.fetch_add(1, SeqCst);
                    return;
                }
                Fault::SwallowReplies => continue,
                Fault::Blackhole => {
                    // What was on its way is lost too.
                    continue;
                }
            }
            if to_client.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
