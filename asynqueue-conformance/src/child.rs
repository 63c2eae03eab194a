//! Other processes of a test: each runs this test binary again, in a role that the parent chooses, and calls it by
//! lines.
//!
//! The binary has an ignored test named `child`, which plays the role. Its output reaches the parent by [`respond`]:
//!
//! ```no_run
//! # use asynqueue_conformance::child;
//! #[test]
//! #[ignore = "started by other tests"]
//! fn child() {
//!     let Some((role, address)) = child::role() else {
//!         return;
//!     };
//!     assert_eq!(role, "echo");
//!     child::respond("ready");
//!     for request in child::requests() {
//!         child::respond(&format!("{request} at {address}"));
//!     }
//! }
//! # fn main() {}
//! ```

#![allow(clippy::missing_panics_doc, reason = "these are tests")]

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader, Write},
    process::{ChildStdin, ChildStdout, Command, Stdio},
};

/// Set in another process: what it does, and with which store.
const ROLE: &str = "ASYNQUEUE_TEST_ROLE";
const ADDRESS: &str = "ASYNQUEUE_TEST_ADDRESS";

/// Lines with this prefix are for the parent. Others come from the test harness.
const MARK: &str = "@ ";

/// Another process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    requests: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Child {
    /// Starts a process in a role, which works on the store at this address. Waits until it is [ready](respond).
    pub fn start(role: &str, address: impl AsRef<OsStr>) -> Self {
        let mut child = Self::launch(role, address);
        assert_eq!(child.read().as_deref(), Some("ready"));
        child
    }

    /// Starts a process in a role.
    pub fn launch(role: &str, address: impl AsRef<OsStr>) -> Self {
        let binary = env::current_exe().expect("a path");
        Self::launch_by(Command::new(binary), role, address)
    }

    /// Starts a process by this command, which runs the [test binary](env::current_exe) with more arguments.
    pub fn launch_by(mut command: Command, role: &str, address: impl AsRef<OsStr>) -> Self {
        let mut child = command
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(ADDRESS, address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process");
        let responses = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            requests: child.stdin.take(),
            responses,
            child,
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line without waiting for its response.
    pub fn send(&mut self, line: &str) {
        let requests = self.requests.as_mut().expect("it is open");
        writeln!(requests, "{line}").expect("the process reads");
        requests.flush().expect("the process reads");
    }

    /// The next response. None once the process has ended.
    pub fn read(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.responses.read_line(&mut line).expect("a line") == 0 {
                return None;
            }
            // The harness writes the name of the test before, without an end of the line.
            if let Some((_, response)) = line.trim_end().split_once(MARK) {
                return Some(response.to_owned());
            }
        }
    }

    /// Sends a line, and waits for its response.
    pub fn call(&mut self, line: &str) -> String {
        self.send(line);
        self.read().expect("the process has ended")
    }

    /// Sends it a signal: `KILL`, `STOP` or `CONT`.
    pub fn signal(&self, signal: &str) {
        send(signal, self.id());
    }

    /// Ends it in its own time.
    pub fn end(mut self) {
        drop(self.requests.take());
        assert!(self.child.wait().expect("it ends").success());
    }

    /// Waits until it has ended. Returns whether it was in order.
    pub fn wait(mut self) -> bool {
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(signal: &str, id: u32) {
    let id = id.to_string();
    let sent = Command::new("kill").args(["-s", signal, &id]).status();
    assert!(sent.expect("kill runs").success(), "kill -s {signal} {id}");
}

/// In another process: its role, and the address of its store. None in a process that no test has started.
pub fn role() -> Option<(String, String)> {
    Some((env::var(ROLE).ok()?, env::var(ADDRESS).ok()?))
}

/// In another process: sends a line to the parent.
pub fn respond(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{MARK}{line}").expect("the parent reads");
    out.flush().expect("the parent reads");
}

/// In another process: the lines of the parent, until it closes the pipe.
pub fn requests() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map_while(Result::ok)
}

/// In another process: ends it by SIGKILL.
pub fn die() -> ! {
    send("KILL", std::process::id());
    unreachable!("SIGKILL ends the process");
}
