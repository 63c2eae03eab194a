//! A place for a sequence of processes: each is replaced when it has ended.

use std::{
    path::PathBuf,
    process::{Child as Process, ChildStdin, Command, Stdio},
    time::Duration,
};

use super::{CHILD_TEST, child, journal::Journal, settings::Settings};

/// A place for a sequence of processes, of which one runs at a time.
#[derive(Debug)]
pub struct Place {
    /// `ROLE_PLACE`.
    name: String,
    url: String,
    settings: Settings,
    journal: Journal,
    incarnation: u32,
    running: Option<(Process, Option<ChildStdin>)>,
}

impl Place {
    pub(crate) fn new(name: String, url: String, settings: Settings, journal: Journal) -> Self {
        Self {
            name,
            url,
            settings,
            journal,
            incarnation: 0,
            running: None,
        }
    }

    /// Its name, `ROLE_PLACE`: `worker_2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the current process, `ROLE_PLACE.INCARNATION`: `worker_2.5`.
    pub fn who(&self) -> String {
        format!("{}.{}", self.name, self.incarnation)
    }

    /// The id of the current process. `None` once it was killed or has ended.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|(process, _)| process.id())
    }

    /// Starts the next process here. It ends with this one, even if this one is killed.
    pub async fn start(&mut self) {
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
            .args(["--ignored", "--exact", "--nocapture", CHILD_TEST])
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

    /// Sends a signal to the current process, by name: `STOP`.
    pub fn signal(&self, signal: &str) {
        if let Some((process, _)) = &self.running {
            let id = process.id().to_string();
            let _ = Command::new("kill").args(["-s", signal, &id]).status();
        }
    }

    /// Kills the current process.
    pub async fn kill(&mut self) {
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
