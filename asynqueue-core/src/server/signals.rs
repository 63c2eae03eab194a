//! What signals of the operating system have requested from the servers of this process.

use std::{future::Future, sync::OnceLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What was requested so far, from all servers of this process.
#[derive(Debug)]
pub(super) struct Asked {
    /// How many signals have requested a stop.
    ends: watch::Sender<u32>,
    /// Cancelled by the second.
    pub(super) hurry: CancellationToken,
    /// How many signals have asked for quiet.
    pub(super) quiet: watch::Sender<u32>,
}

impl Asked {
    pub(super) fn of_process() -> &'static Self {
        static ASKED: OnceLock<Asked> = OnceLock::new();
        ASKED.get_or_init(|| Self {
            ends: watch::Sender::new(0),
            hurry: CancellationToken::new(),
            quiet: watch::Sender::new(0),
        })
    }

    fn end(&self, code: i32) {
        self.ends.send_modify(|ends| *ends += 1);
        match *self.ends.borrow() {
            1 => {}
            2 => {
                tracing::warn!(
                    "a second signal: running tasks are given back without waiting for them"
                );
                self.hurry.cancel();
            }
            _ => {
                tracing::error!("a third signal: the process exits at once");
                std::process::exit(128 + code);
            }
        }
    }
}

/// Completes at the first SIGINT or SIGTERM, or Ctrl-C where there are no signals; for
/// [`ServerBuilder::run`](crate::server::ServerBuilder::run). Signals count from the call on, before the future is first polled,
/// and are received on a thread of their own, which no handler can block.
///
/// The first lets running tasks finish within the [shutdown timeout](crate::server::ServerBuilder::shutdown_timeout). A second
/// cuts that short: servers give back what runs, without counting an attempt, and stop. A third exits the process at once.
/// SIGUSR1 makes the servers of this process [quiet](crate::server::ServerHandle::set_quiet), as before a deploy.
pub fn shutdown_signal() -> impl Future<Output = ()> + Send + 'static {
    let listening = listen();
    let mut ends = Asked::of_process().ends.subscribe();
    // One that had come before the call counts for other servers.
    let before = *ends.borrow_and_update();
    async move {
        if let Err(error) = listening {
            // To stop at once would be worse than not at all.
            tracing::error!(%error, "no signal can be received; the server runs until it is stopped otherwise");
            return std::future::pending().await;
        }
        // The sender lives as long as the process.
        let _ = ends.wait_for(|ends| *ends > before).await;
    }
}

/// Starts to receive signals, once in a process.
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
            let asked = Asked::of_process();
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => asked.end(SignalKind::interrupt().as_raw_value()),
                        _ = terminate.recv() => asked.end(SignalKind::terminate().as_raw_value()),
                        _ = quiet.recv() => asked.quiet.send_modify(|asked| *asked += 1),
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
            let asked = Asked::of_process();
            runtime.block_on(async {
                while tokio::signal::ctrl_c().await.is_ok() {
                    asked.end(2);
                }
            });
        })?;
    Ok(())
}
