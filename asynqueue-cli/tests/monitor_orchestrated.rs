//! `asynqueue monitor` below an orchestrator: settings from the environment and from files, and a broker that starts
//! later.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
};

use asynqueue_test_servers::{RedisServer, eventually};

/// The command with nothing but the given variables.
fn monitor(variables: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asynqueue"));
    command.env_clear().envs(variables.iter().copied());
    command
        .args(["monitor", "--listen", "127.0.0.1:0"])
        .args(args);
    command
}

/// A running command. It ends when this is dropped.
struct Running(Child, String);

impl Running {
    /// Starts it, and reads its address.
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("runs");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let url = lines.next().expect("a line").expect("text");
        Self(child, url)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("{}{path}", self.1)).await;
        let response = response.expect("a response");
        let status = response.status().as_u16();
        (status, response.text().await.expect("text"))
    }

    /// The status of a request of a user.
    async fn status(&self, path: &str, user: &str, password: &str, changes: bool) -> u16 {
        let (client, url) = (reqwest::Client::new(), format!("{}{path}", self.1));
        let request = match changes {
            true => client.post(url),
            false => client.get(url),
        };
        let response = request.basic_auth(user, Some(password)).send().await;
        response.expect("a response").status().as_u16()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last line that a command prints to standard error before it fails.
fn failure(command: &mut Command) -> String {
    let output = command.output().expect("runs");
    assert!(!output.status.success());
    let errors = String::from_utf8(output.stderr).expect("UTF-8");
    errors.lines().last().expect("a line").to_owned()
}

#[tokio::test]
async fn the_url_and_the_face_come_from_the_environment() {
    let variables = [
        ("ASYNQUEUE_BROKER", "memory:"),
        ("ASYNQUEUE_MONITOR_NAME", "staging"),
        ("ASYNQUEUE_MONITOR_TITLE", "Shop"),
        ("ASYNQUEUE_MONITOR_COLOR", "green"),
    ];
    let running = Running::start(&mut monitor(&variables, &[]));
    let (status, page) = running.get("").await;
    assert_eq!(status, 200);
    assert!(
        page.contains("<title>Queues · staging · Shop</title>"),
        "{page}"
    );
    assert!(page.contains("/assets/face/17653a.css"), "{page}");
    let variables = [("ASYNQUEUE_BROKER", "memory:")];
    let refused = failure(&mut monitor(&variables, &["--color", "crimson"]));
    assert!(
        refused.starts_with("asynqueue: `crimson` is not a color: "),
        "{refused}"
    );
}

#[tokio::test]
async fn several_brokers_share_a_monitor() {
    let several = [("ASYNQUEUE_BROKER", "eu=memory: us=memory:")];
    let args = ["--broker", "eu=memory:", "--broker", "us=memory:"];
    let commands = [monitor(&several, &[]), monitor(&[], &args)];
    for mut command in commands {
        let running = Running::start(&mut command);
        let (status, page) = running.get("us/servers").await;
        assert!(
            status == 200 && page.contains(r#"<a href="/eu/servers">eu</a>"#),
            "{page}"
        );
        assert_eq!(
            running.get("readyz").await,
            (200, "eu: ok\nus: ok\n".into())
        );
    }
    let nameless = ["--broker", "memory:", "--broker", "us=memory:"];
    let refused = failure(&mut monitor(&[], &nameless));
    assert!(
        refused.contains("1 of 2 brokers have no name: "),
        "{refused}"
    );
}

/// Help and errors of arguments print the values of variables unless they are hidden.
#[test]
fn the_url_in_the_environment_is_not_printed() {
    let variables = [("ASYNQUEUE_BROKER", "redis://:hunter2@localhost")];
    for arg in ["--help", "--nonsense"] {
        let output = monitor(&variables, &[arg]).output().expect("runs");
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8(printed).expect("UTF-8");
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}

#[tokio::test]
async fn it_is_alive_and_not_ready_until_its_broker_responds() {
    let mut redis = RedisServer::start().await;
    let url = redis.url();
    redis.stop();
    let running = Running::start(&mut monitor(&[("ASYNQUEUE_BROKER", &url)], &[]));
    assert_eq!(running.get("livez").await, (200, "ok\n".into()));
    eventually("the reason", async || {
        let (status, reason) = running.get("readyz").await;
        assert_eq!(status, 503, "{reason}");
        reason.contains("cannot reach Redis at ")
    })
    .await;
    assert_eq!(running.get("").await.0, 503);
    redis.start_again().await;
    eventually("it is ready", async || running.get("readyz").await.0 == 200).await;
    assert_eq!(running.get("").await.0, 200);
}

#[test]
fn an_invalid_url_ends_it() {
    let refused = failure(&mut monitor(
        &[("ASYNQUEUE_BROKER", "http://localhost")],
        &[],
    ));
    assert!(refused.contains("unknown scheme `http`"), "{refused}");
}

#[tokio::test]
async fn users_and_their_roles_come_from_a_file_and_the_environment() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("users");
    fs::write(&file, "# team\nada:admin:secret\nguest:viewer:look:only\n").expect("written");
    let path = file.to_str().expect("text");
    let broker = ("ASYNQUEUE_BROKER", "memory:");
    let args = ["--users-file", path];
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("set");
    let refused = failure(&mut monitor(&[broker], &args));
    assert!(
        refused.contains("every user of this machine can read the passwords")
            && refused.contains("mode 644")
            && refused.contains("chmod o-r"),
        "{refused}"
    );
    fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("set");
    let variables = [broker, ("ASYNQUEUE_MONITOR_USERS", "grace:viewer:hopper")];
    let running = Running::start(&mut monitor(&variables, &args));
    let change = "api/queues/mail/pause";
    for (user, password, look, changed) in [
        ("ada", "secret", 200, 404),
        ("guest", "look:only", 200, 403),
        ("grace", "hopper", 200, 403),
        ("guest", "look", 401, 401),
    ] {
        let looked = running.status("", user, password, false).await;
        let paused = running.status(change, user, password, true).await;
        let may = |status: u16| if status < 400 { 404 } else { status };
        assert_eq!((looked, may(paused)), (look, changed), "{user}");
    }
    let twice = [broker, ("ASYNQUEUE_MONITOR_USERS", "ada:viewer:hunter2")];
    let refused = failure(&mut monitor(&twice, &args));
    assert_eq!(
        refused,
        "asynqueue: user `ada` is defined twice: remove one of them"
    );
}

/// A file without users would otherwise open the monitor to everyone.
#[test]
fn no_users_are_not_the_same_as_no_file() {
    let broker = ("ASYNQUEUE_BROKER", "memory:");
    let empty = [broker, ("ASYNQUEUE_MONITOR_USERS", "")];
    let refused = failure(&mut monitor(&empty, &[]));
    assert!(
        refused.contains("`ASYNQUEUE_MONITOR_USERS` has no users"),
        "{refused}"
    );
    let refused = failure(&mut monitor(
        &[broker],
        &["--users-file", "/nonexistent/users"],
    ));
    assert!(
        refused.contains("cannot read the users in `/nonexistent/users`: "),
        "{refused}"
    );
}
