//! Operating system signals received by this process.

use std::{future::Future, sync::OnceLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The requests made by signals so far, to all servers of this process.
#[derive(Debug)]
pub(super) struct SignalRequests {
    /// The number of signals that requested a stop.
    stops: watch::Sender<u32>,
    /// Cancelled by the second of them.
    pub(super) hurry: CancellationToken,
    /// The number of signals that requested quiet mode.
    pub(super) quiet: watch::Sender<u32>,
}

impl SignalRequests {
    pub(super) fn of_process() -> &'static Self {
        static REQUESTS: OnceLock<SignalRequests> = OnceLock::new();
        REQUESTS.get_or_init(|| Self {
            stops: watch::Sender::new(0),
            hurry: CancellationToken::new(),
            quiet: watch::Sender::new(0),
        })
    }

    fn stop(&self, code: i32) {
        self.stops.send_modify(|stops| *stops += 1);
        match *self.stops.borrow() {
            1 => {}
            2 => {
                tracing::warn!("second signal received: releasing running tasks without waiting");
                self.hurry.cancel();
            }
            _ => {
                tracing::error!("third signal received: exiting the process immediately");
                std::process::exit(128 + code);
            }
        }
    }
}

/// Completes at the first SIGINT or SIGTERM (Ctrl-C where there are no signals); for
/// [`ServerBuilder::run`](crate::server::ServerBuilder::run). Signals count from the moment of the call, before the
/// future is first polled. They are received on a separate thread, which no handler can block.
///
/// After the first signal, running tasks may finish within the [shutdown
/// timeout](crate::server::ServerBuilder::shutdown_timeout). After a second one, servers release running tasks without
/// counting an attempt, and stop. A third one exits the process immediately. SIGUSR1 makes the servers of this process
/// [quiet](crate::server::ServerHandle::set_quiet), for example before a deploy.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let listening = listen();
    let mut stops = SignalRequests::of_process().stops.subscribe();
    // Signals received before this call were meant for other servers.
    let before = *stops.borrow_and_update();
    async move {
        if let Err(error) = listening {
            // Running without signals is better than stopping immediately.
            tracing::error!(%error, "could not listen for signals; the server runs until it is stopped in another way");
            return std::future::pending().await;
        }
        // The sender lives as long as the process.
        let _ = stops.wait_for(|stops| *stops > before).await;
    }
}

/// Starts listening for signals, once per process.
fn listen() -> Result<(), String> {
    static LISTENING: OnceLock<Result<(), String>> = OnceLock::new();
    let start = || start_listening().map_err(|error| error.to_string());
    LISTENING.get_or_init(start).clone()
}

#[cfg(unix)]
fn start_listening() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut quiet = signal(SignalKind::user_defined1())?;
    drop(entered);
    std::thread::Builder::new()
        .name("asynqueue-signal".into())
        .spawn(move || {
            let requests = SignalRequests::of_process();
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => requests.stop(SignalKind::interrupt().as_raw_value()),
                        _ = terminate.recv() => requests.stop(SignalKind::terminate().as_raw_value()),
                        _ = quiet.recv() => requests.quiet.send_modify(|count| *count += 1),
                    }
                }
            });
        })?;
    Ok(())
}

#[cfg(not(unix))]
fn start_listening() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    std::thread::Builder::new()
        .name("asynqueue-signal".into())
        .spawn(move || {
            let requests = SignalRequests::of_process();
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    requests.stop(2);
                }
            });
        })?;
    Ok(())
}
