//! Child processes that end with the test.

use std::{
    io,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{LazyLock, mpsc},
    thread,
};

use crate::user::User;

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a program in `dir` with these arguments. Its output goes to a file `log` there.
    pub(crate) fn start(program: &str, dir: &Path, args: &[String]) -> Self {
        Self::start_as(User::Current, "KILL", program, dir, args)
    }

    /// Starts a program as a user. It receives this signal if the test dies.
    pub(crate) fn start_as(
        user: User,
        last_signal: &str,
        program: &str,
        dir: &Path,
        args: &[String],
    ) -> Self {
        // With `setpriv`, the child ends with this process even if this one is killed.
        let mut command = if Path::new("/usr/bin/setpriv").exists() {
            let mut command = user.command("/usr/bin/setpriv");
            command.args(["--pdeathsig", last_signal, program]);
            command
        } else {
            user.command(program)
        };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        command
            .args(args)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = spawn(command).unwrap_or_else(|error| {
            panic!("cannot start {program}: {error}; scripts/test installs it")
        });
        Self { child }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", signal, &id])
            .status()
            .unwrap();
        assert!(sent.success(), "kill -s {signal} {id}");
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) {
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // SIGKILL also ends a stopped process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Starts a child on a thread that lives as long as this process: the last signal of a child is sent when the *thread*
/// that started it ends, and a server may be shared by tests that run on several threads.
fn spawn(command: Command) -> io::Result<Child> {
    static STARTER: LazyLock<mpsc::Sender<Request>> = LazyLock::new(|| {
        let (requests, received) = mpsc::channel::<Request>();
        thread::spawn(move || {
            for (mut command, started) in received {
                let _ = started.send(command.spawn());
            }
        });
        requests
    });
    let (started, child) = mpsc::channel();
    STARTER.send((command, started)).unwrap();
    child.recv().unwrap()
}

/// A free port whose port for the bus of a Cluster is free too.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        // Below the ports of outgoing connections, which could block the restart of a server.
        let port = 10_000 + port % 20_000;
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}
