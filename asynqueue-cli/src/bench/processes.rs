//! The processes of a PostgreSQL on this machine, and the CPU time that they use.

use tokio_postgres::{Client, Config, NoTls};

/// How many ticks of CPU time Linux counts in a second.
const TICKS_PER_SECOND: f64 = 100.0;

/// The processes of a server: its postmaster, and a child for each connection and for each task in the background.
pub(super) struct Processes {
    postmaster: u32,
}

impl Processes {
    /// Finds the processes of the server at a URL. `None` if it runs on another machine or in a container, does not
    /// accept a connection without TLS, or if this is not Linux.
    pub(super) async fn of(url: &str) -> Option<Self> {
        let config = config(url)?;
        let (client, connection) = config.connect(NoTls).await.ok()?;
        let connection = tokio::spawn(connection);
        let found = Self::behind(&client).await;
        drop(client);
        let _ = connection.await;
        found
    }

    async fn behind(client: &Client) -> Option<Self> {
        let backend = "select pg_backend_pid(), inet_client_port()";
        let backend = client.query_one(backend, &[]).await.ok()?;
        let (id, port): (i32, Option<i32>) = (backend.get(0), backend.get(1));
        // On another machine, another process may have its id. The title names the client: `[local]`, or its port.
        let title = std::fs::read_to_string(format!("/proc/{id}/cmdline")).ok()?;
        let client = port.map_or("[local]".to_owned(), |port| format!("({port})"));
        let is_it = title.starts_with("postgres: ") && title.contains(&client);
        let backend = Stat::read(id.try_into().ok()?)?;
        is_it.then_some(Self {
            postmaster: backend.parent,
        })
    }

    /// Their CPU time until now in seconds, including the processes that have ended.
    pub(super) fn cpu(&self) -> Option<f64> {
        let postmaster = Stat::read(self.postmaster)?;
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let ids = processes.filter_map(|process| process.file_name().to_str()?.parse().ok());
        let children = ids.filter_map(Stat::read);
        let children = children.filter(|child| child.parent == self.postmaster);
        let ticks = postmaster.ticks + children.map(|child| child.ticks).sum::<u64>();
        Some(ticks as f64 / TICKS_PER_SECOND)
    }
}

/// The connection that a broker's URL describes, without the parameters that only the broker knows.
fn config(url: &str) -> Option<Config> {
    let (place, parameters) = url.split_once('?').unwrap_or((url, ""));
    let parameters = parameters.split('&').filter(|parameter| {
        let alone = format!("{place}?{parameter}").parse::<Config>();
        alone.is_ok()
    });
    let known: Vec<_> = parameters.collect();
    format!("{place}?{}", known.join("&")).parse().ok()
}

/// What `/proc/PID/stat` says of a process.
struct Stat {
    parent: u32,
    /// User and system time: its own, and that of its children that have ended.
    ticks: u64,
}

impl Stat {
    fn read(id: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        // The name before it may contain spaces.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<_> = fields.split(' ').collect();
        let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            parent: number(1)?.try_into().ok()?,
            ticks: (11..=14).map(number).sum::<Option<u64>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use asynqueue_test_servers::Postgres;

    use super::*;

    #[tokio::test]
    async fn a_local_server_is_found_and_its_cpu_time_is_that_of_all_its_processes() {
        let server = Postgres::fast().await;
        let processes = Processes::of(&server.new_schema()).await;
        let processes = processes.expect("the server");
        assert_eq!(processes.postmaster, server.pid());
        let before = processes.cpu().expect("a time");
        // Takes longer than a tick on any machine, in a process that ends after it.
        let work = "select sum(n) from generate_series(1, 2000000) n";
        server.execute(work).await;
        let after = processes.cpu().expect("a time");
        assert!(after > before, "{before} s, {after} s");
        drop(server);
        assert_eq!(processes.cpu(), None);
    }

    #[tokio::test]
    async fn a_server_that_does_not_respond_has_no_known_processes() {
        let nowhere = Processes::of("postgres://ada@127.0.0.1:1/db").await;
        assert!(nowhere.is_none());
    }

    #[test]
    fn parameters_of_the_broker_are_not_those_of_the_connection() {
        let url = "postgres://ada@db/tasks?schema=queue&connect_timeout=3&pool=2";
        let config = config(url).expect("a connection");
        assert_eq!(config.get_dbname(), Some("tasks"));
        let timeout = config.get_connect_timeout().expect("a timeout");
        assert_eq!(timeout.as_secs(), 3);
        let without = super::config("postgres://ada@db/tasks");
        assert_eq!(without.expect("a connection").get_user(), Some("ada"));
    }
}
