//! Other processes: this test binary, which runs its ignored test `child` there and does what it reads line by line.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

/// Set in another process: what it does.
const ROLE: &str = "ASYNQUEUE_TEST_ROLE";
const FILE: &str = "ASYNQUEUE_TEST_FILE";

/// Lines with this prefix are for the parent. Others come from the test harness.
const MARK: &str = "@ ";

/// A process that ends with this value.
pub(crate) struct Process {
    child: Child,
    requests: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a process with a role, which works on a file. Waits until it is [ready](respond).
    pub(crate) fn start(role: &str, file: &Path) -> Self {
        let mut process = Self::launch(Command::new(this()), role, file);
        assert_eq!(process.read(), "ready");
        process
    }

    fn launch(mut command: Command, role: &str, file: &Path) -> Self {
        let mut child = command
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ROLE, role)
            .env(FILE, file)
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

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a line without waiting for its response.
    pub(crate) fn send(&mut self, line: &str) {
        let requests = self.requests.as_mut().expect("it is open");
        writeln!(requests, "{line}").expect("the process reads");
        requests.flush().expect("the process reads");
    }

    /// The next response.
    pub(crate) fn read(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.responses.read_line(&mut line).expect("a line");
            assert!(length > 0, "the process has ended");
            // The harness writes the name of the test before, without an end of the line.
            if let Some((_, response)) = line.trim_end().split_once(MARK) {
                return response.to_owned();
            }
        }
    }

    /// Sends a line, and waits for its response.
    pub(crate) fn call(&mut self, line: &str) -> String {
        self.send(line);
        self.read()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.expect("kill runs").success(), "kill -s {signal} {id}");
    }

    /// Ends it in its own time.
    pub(crate) fn end(mut self) {
        drop(self.requests.take());
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn this() -> std::path::PathBuf {
    env::current_exe().expect("a path")
}

/// In another process: its role and its file.
pub(crate) fn role() -> Option<(String, std::path::PathBuf)> {
    Some((env::var(ROLE).ok()?, env::var_os(FILE)?.into()))
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

/// Runs a role in a namespace with its own mounts, prepared by a shell script whose `$1` is the folder of the file.
/// Returns false, and says so, where the system does not allow this.
pub(crate) fn run_mounted(role: &str, file: &Path, script: &str) -> bool {
    let isolated = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", script, "sh"]);
        command.arg(file.parent().expect("a folder"));
        command
    };
    let tried = isolated("mount -t tmpfs none \"$1\"").status();
    if !tried.is_ok_and(|tried| tried.success()) {
        eprintln!("left out: this system does not allow `unshare -Urm` and `mount`");
        return false;
    }
    let mut command = isolated(&format!("set -e; {script}; shift; exec \"$@\""));
    command.arg(this());
    run(command, role, file);
    true
}

/// Runs a role below a shell script.
pub(crate) fn run_limited(role: &str, file: &Path, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{script}; exec \"$@\""), "sh"]);
    command.arg(this());
    run(command, role, file);
}

fn run(command: Command, role: &str, file: &Path) {
    Process::launch(command, role, file).end();
}
