//! A PostgreSQL, and its standby.

mod folder;
mod tree;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::sync::Mutex;
use tokio_postgres::{Client, Config, NoTls};

use self::folder::Folder;
use crate::process::{Process, free_port};

/// Settings without which tests would wait for the disk. Only a crash of the machine loses data by them.
const FAST: [&str; 3] = ["fsync=off", "full_page_writes=off", "max_connections=500"];

/// How long the server may take to start or to end.
const IN_TIME: Duration = Duration::from_secs(60);

/// A separate PostgreSQL of the newest version on this machine, on a free TCP port. Any user may connect without a
/// password. The superuser is `postgres`. Text is sorted by the rules of English, as it often is in production.
#[derive(Debug)]
pub struct Postgres {
    folder: Folder,
    port: u16,
    settings: Vec<String>,
    process: Process,
    /// How many schemas [`Postgres::new_schema`] has named.
    schemas: AtomicU64,
}

impl Postgres {
    /// Starts a server with PostgreSQL's defaults: what is committed is on the disk.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// Starts a server that does not wait for the disk.
    pub async fn fast() -> Self {
        Self::with(&FAST).await
    }

    /// A fast server that the tests of this process share. It ends with the last of them.
    pub async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Self::fast().await);
        *shared = Arc::downgrade(&server);
        server
    }

    /// Starts a server with more settings, such as `["max_connections=10"]`.
    pub async fn with(settings: &[&str]) -> Self {
        let settings = settings.iter().copied().map(String::from).collect();
        Self::in_folder(Folder::create, settings).await
    }

    /// Starts a standby of this server, with the same settings. It answers queries, and `select pg_promote()` makes it a
    /// primary.
    pub async fn standby(&self) -> Self {
        Self::in_folder(|| Folder::of_standby(self.port), self.settings.clone()).await
    }

    async fn in_folder(create: impl Fn() -> Folder, settings: Vec<String>) -> Self {
        loop {
            let (folder, port) = (create(), free_port());
            let mut server = Self {
                process: run(&folder, port, &settings),
                folder,
                port,
                settings: settings.clone(),
                schemas: AtomicU64::new(0),
            };
            if server.answers().await {
                return server;
            }
        }
    }

    /// Waits until it accepts connections. Returns false if another process has its port.
    async fn answers(&mut self) -> bool {
        let started = Instant::now();
        while try_connect(&self.url()).await.is_err() {
            if self.process.has_ended() {
                let log = self.log();
                assert!(
                    log.contains("Address already in use"),
                    "PostgreSQL did not start: {log}"
                );
                return false;
            }
            assert!(
                started.elapsed() < IN_TIME,
                "PostgreSQL did not start in time: {}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// The URL of its database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Creates a database, and returns its URL.
    pub async fn database(&self, name: &str) -> String {
        self.execute(&format!("create database \"{name}\"")).await;
        self.url_of(name)
    }

    /// The URL of the database `postgres` with a schema that was not used before: the cheapest way to an empty store.
    pub fn new_schema(&self) -> String {
        let number = self.schemas.fetch_add(1, Relaxed) + 1;
        format!("{}?schema=test_{number}", self.url())
    }

    /// A connection to its database `postgres`.
    pub async fn client(&self) -> Client {
        Self::connect(&self.url()).await
    }

    /// A connection to a database by its URL, of which `schema` becomes the search path.
    pub async fn connect(url: &str) -> Client {
        try_connect(url).await.unwrap()
    }

    /// Executes statements in its database `postgres`.
    pub async fn execute(&self, sql: &str) {
        self.client().await.batch_execute(sql).await.unwrap();
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The process id of its postmaster.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// CPU time of all its processes until now, including the ones that have ended.
    pub fn cpu(&self) -> Duration {
        tree::cpu(self.pid())
    }

    /// Stops it in order: transactions are rolled back, and connections closed.
    pub fn stop(&mut self) {
        self.process.signal("INT");
        self.process.wait();
    }

    /// Kills its postmaster, and waits until its other processes have noticed. A commit that one of them has started may
    /// still complete.
    pub fn kill(&mut self) {
        // A stopped postmaster starts no process that would be overlooked.
        self.process.signal("STOP");
        let children = tree::children(self.pid());
        self.process.signal("KILL");
        self.process.wait();
        let killed = Instant::now();
        while let Some(child) = children.iter().find(|child| child.is_alive()) {
            assert!(
                killed.elapsed() < IN_TIME,
                "{child:?} outlives its postmaster: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Starts it again, with its data and on the same port. Stops it first if it is running.
    pub async fn restart(&mut self) {
        if !self.process.has_ended() {
            self.stop();
        }
        self.process = run(&self.folder, self.port, &self.settings);
        assert!(self.answers().await, "the port is still free");
    }

    /// Pauses all its processes with SIGSTOP.
    pub fn pause(&self) {
        self.process.signal("STOP");
        for child in tree::children(self.pid()) {
            child.signal("STOP");
        }
    }

    /// Resumes them.
    pub fn resume(&self) {
        for child in tree::children(self.pid()) {
            child.signal("CONT");
        }
        self.process.signal("CONT");
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if !self.process.has_ended() {
            // An immediate shutdown ends all processes and frees the shared memory.
            self.process.signal("QUIT");
            self.resume();
            self.process.wait();
        }
    }
}

/// Starts the postmaster.
fn run(folder: &Folder, port: u16, settings: &[String]) -> Process {
    let data = folder.data();
    let mut args = vec!["-D".to_owned(), data.to_str().unwrap().to_owned()];
    let port = format!("port={port}");
    let fixed = [
        "listen_addresses=127.0.0.1",
        &port,
        "unix_socket_directories=",
        // In the folder, so that nothing is left in the machine's shared memory.
        "dynamic_shared_memory_type=mmap",
    ];
    let settings = settings.iter().map(String::as_str);
    for setting in fixed.into_iter().chain(settings) {
        args.extend(["-c".to_owned(), setting.to_owned()]);
    }
    let program = folder::program("postgres");
    Process::start_as(folder.user(), "QUIT", &program, folder.path(), &args)
}

/// Connects, and drives the connection until its client is dropped.
async fn try_connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (url, schema) = match url.split_once("?schema=") {
        Some((url, schema)) => (url, Some(schema)),
        None => (url, None),
    };
    let (client, connection) = url.parse::<Config>()?.connect(NoTls).await?;
    tokio::spawn(connection);
    if let Some(schema) = schema {
        let path = format!("set search_path to \"{schema}\"");
        client.batch_execute(&path).await?;
    }
    Ok(client)
}
