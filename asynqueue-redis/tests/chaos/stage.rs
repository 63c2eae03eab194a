//! The processes of a run: each in its place, behind a proxy, and replaced when it has ended.

use std::{
    path::PathBuf,
    process::{Child as Process, ChildStdin, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use asynqueue_test_servers::Proxy;
use tokio::sync::{Mutex, RwLock};

use super::{child, journal::Journal, settings::Settings, store::Store};

/// How many processes there are of each role.
const ROLES: [(&str, usize); 3] = [("worker", 3), ("producer", 2), ("operator", 1)];

/// Everything that takes part in a run.
pub(crate) struct Stage {
    pub(crate) settings: Settings,
    /// The record of injected faults.
    pub(crate) journal: Journal,
    pub(crate) store: Arc<RwLock<Store>>,
    pub(crate) places: Vec<Arc<Mutex<Place>>>,
    /// The proxies, and the process that a fault of each concerns.
    pub(crate) links: Vec<(String, Arc<Proxy>)>,
}

/// A place for a sequence of processes.
pub(crate) struct Place {
    /// `ROLE_PLACE`.
    pub(crate) name: String,
    settings: Settings,
    journal: Journal,
    url: String,
    incarnation: u32,
    running: Option<(Process, Option<ChildStdin>)>,
}

impl Stage {
    pub(crate) async fn start(settings: &Settings) -> Self {
        let store = Store::start(settings.is_cluster).await;
        let journal = Journal::create(&settings.dir, "faults");
        let (mut places, mut links) = (Vec::new(), Vec::new());
        for (role, count) in ROLES {
            for number in 0..count {
                let name = format!("{role}_{number}");
                let url = match &store {
                    Store::Single(server) => {
                        let proxy = Proxy::start(server.port()).await;
                        let url = proxy.url();
                        links.push((name.clone(), Arc::new(proxy)));
                        url
                    }
                    Store::Cluster(_, proxies) => {
                        let node = |proxy: &Arc<Proxy>| format!("127.0.0.1:{}", proxy.port());
                        let nodes: Vec<_> = proxies.iter().map(node).collect();
                        format!("redis+cluster://{}", nodes.join(","))
                    }
                };
                places.push(Place {
                    name,
                    settings: settings.clone(),
                    journal: journal.clone(),
                    url,
                    incarnation: 0,
                    running: None,
                });
            }
        }
        for place in &mut places {
            place.start().await;
        }
        if let Store::Cluster(_, proxies) = &store {
            // All processes reach a node by the same proxy.
            links.extend(
                proxies
                    .iter()
                    .map(|proxy| ("all".to_owned(), Arc::clone(proxy))),
            );
        }
        Self {
            settings: settings.clone(),
            journal,
            store: Arc::new(RwLock::new(store)),
            places: places
                .into_iter()
                .map(|place| Arc::new(Mutex::new(place)))
                .collect(),
            links,
        }
    }

    /// Requests the processes of a role to end in order, and waits for them. Returns the processes that did not.
    pub(crate) async fn end(&self, role: &str) -> Vec<String> {
        let mut failed = Vec::new();
        for place in &self.places {
            let mut place = place.lock().await;
            if place.name.starts_with(role) {
                place.request_end();
            }
        }
        for place in &self.places {
            let mut place = place.lock().await;
            if place.name.starts_with(role) && !place.has_ended(Duration::from_secs(40)).await {
                failed.push(place.who());
                place.kill().await;
            }
        }
        failed
    }
}

impl Place {
    /// The name of the current process.
    pub(crate) fn who(&self) -> String {
        format!("{}.{}", self.name, self.incarnation)
    }

    /// Starts the next process here. It ends with this one, even if this one is killed.
    pub(crate) async fn start(&mut self) {
        self.incarnation += 1;
        let program = this_program();
        let mut command = if std::path::Path::new("/usr/bin/setpriv").exists() {
            let mut command = Command::new("/usr/bin/setpriv");
            command.args(["--pdeathsig", "KILL"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        let log = std::fs::File::create(self.settings.dir.join(format!("{}.log", self.who())));
        let log = log.expect("a log");
        let mut process = command
            .args(["--ignored", "--exact", "--nocapture", "child_of_a_run"])
            .env(child::NAME, self.who())
            .env(child::URL, &self.url)
            .env(child::DIR, &self.settings.dir)
            .env(child::SEED, self.settings.seed.to_string())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("a child");
        let stdin = process.stdin.take();
        self.running = Some((process, stdin));
        self.journal.note(format!("born {}", self.who())).await;
    }

    pub(crate) fn signal(&self, signal: &str) {
        if let Some((process, _)) = &self.running {
            let id = process.id().to_string();
            let _ = Command::new("kill").args(["-s", signal, &id]).status();
        }
    }

    pub(crate) async fn kill(&mut self) {
        // It may be dead from here on.
        self.journal.note(format!("died {}", self.who())).await;
        self.signal("KILL");
        if let Some((mut process, _)) = self.running.take() {
            let _ = process.wait();
        }
    }

    pub(crate) fn request_end(&mut self) {
        if let Some((_, stdin)) = &mut self.running {
            *stdin = None;
        }
    }

    /// Waits until the process has ended by itself. Returns whether it has, in order.
    pub(crate) async fn has_ended(&mut self, time: Duration) -> bool {
        let started = std::time::Instant::now();
        while let Some((process, _)) = &mut self.running {
            match process.try_wait() {
                Ok(None) if started.elapsed() < time => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(Some(status)) => {
                    self.running = None;
                    self.journal
                        .note(format!("ended {} {}", self.who(), status.success()))
                        .await;
                    return status.success();
                }
                _ => return false,
            }
        }
        true
    }
}

/// This program, even after another was built in its place during a long run.
fn this_program() -> PathBuf {
    let running = PathBuf::from(format!("/proc/{}/exe", std::process::id()));
    if running.exists() {
        return running;
    }
    std::env::current_exe().expect("this program")
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some((process, _)) = &mut self.running {
            // Also ends a stopped process.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
