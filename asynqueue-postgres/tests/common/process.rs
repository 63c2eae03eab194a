//! Other processes: this test binary, which runs its ignored test `child` there and does what it reads line by line.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Set in another process: what it does, and with which database.
const ROLE: &str = "ASYNQUEUE_TEST_ROLE";
const URL: &str = "ASYNQUEUE_TEST_URL";

/// Lines with this prefix are for the parent. Others come from the test harness.
const MARK: &str = "@ ";

/// A process that ends with this value.
pub(crate) struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a process with a role. Waits until it is [ready](respond).
    pub(crate) fn start(role: &str, url: &str) -> Self {
        let mut process = Self::launch(role, url);
        assert_eq!(process.read().as_deref(), Some("ready"));
        process
    }

    /// Starts a process with a role.
    pub(crate) fn launch(role: &str, url: &str) -> Self {
        let mut child = Command::new(env::current_exe().expect("a path"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(URL, url)
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

    /// Sends a line without waiting for its response.
    pub(crate) fn send(&mut self, line: &str) {
        let requests = self.requests.as_mut().expect("it is open");
        writeln!(requests, "{line}").expect("the process reads");
        requests.flush().expect("the process reads");
    }

    /// The next response. None once the process has ended.
    pub(crate) fn read(&mut self) -> Option<String> {
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
    pub(crate) fn call(&mut self, line: &str) -> String {
        self.send(line);
        self.read().expect("the process has ended")
    }

    /// Ends it in its own time.
    pub(crate) fn end(mut self) {
        drop(self.requests.take());
        assert!(self.child.wait().expect("it ends").success());
    }

    /// Waits until it has ended. Returns whether it was in order.
    pub(crate) fn wait(mut self) -> bool {
        self.child.wait().expect("it ends").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In another process: its role and its URL.
pub(crate) fn role() -> Option<(String, String)> {
    Some((env::var(ROLE).ok()?, env::var(URL).ok()?))
}

/// In another process: sends a line to the parent.
pub(crate) fn respond(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").expect("the parent reads");
    out.flush().expect("the parent reads");
}

/// In another process: the lines of the parent, until it closes the pipe.
pub(crate) fn requests() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map_while(Result::ok)
}

/// In another process: ends it by SIGKILL.
pub(crate) fn die() -> ! {
    let own = std::process::id().to_string();
    let _ = Command::new("kill").args(["-s", "KILL", &own]).status();
    unreachable!("SIGKILL ends the process");
}
