//! The settings of what runs beside a server: scheduler, metrics and web monitor.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Deserialize;

use super::{Password, values};

/// Settings of the scheduler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct Scheduling {
    /// Whether to run it. Default: if there are entries in code or a `file`. `false` leaves both to other programs.
    #[serde(deserialize_with = "values::flag")]
    pub enable: Option<bool>,
    /// A TOML file of entries, reloaded when it changes: `SchedulerBuilder::file`. Relative to the working directory.
    /// Default none.
    #[serde(deserialize_with = "values::some_text")]
    pub file: Option<String>,
    /// The owner of the entries in code: entries that it no longer declares are removed. See `SchedulerBuilder::owner`.
    #[serde(deserialize_with = "values::some_text")]
    pub owner: Option<String>,
}

/// Settings of the HTTP endpoint for metrics and health: `/metrics`, `/livez` and `/readyz`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct Metrics {
    /// The address to listen on, such as `127.0.0.1:9464`. Default none: the endpoint is not served.
    #[serde(deserialize_with = "values::address")]
    pub address: Option<String>,
    /// The maximum number of queues in the metrics. Default 1,000.
    #[serde(deserialize_with = "values::count")]
    pub max_queues: Option<usize>,
}

/// Settings of the web monitor.
///
/// A server does not serve the monitor: `App` of the `asynqueue` crate does, and [`ServerBuilder::config`] refuses a
/// configuration that enables it. A program that serves the monitor itself passes these settings to
/// `Monitor::serve_configured`, and removes them from the configuration first:
/// `std::mem::take(&mut config.monitoring)`.
///
/// [`ServerBuilder::config`]: crate::server::ServerBuilder::config
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "a table")]
#[non_exhaustive]
pub struct Monitoring {
    /// Whether to serve it. Default `false`.
    #[serde(deserialize_with = "values::flag")]
    pub enable: Option<bool>,
    /// The host or IP address to listen on. Default `127.0.0.1`, which is reachable only from this machine. `0.0.0.0`
    /// is every IPv4 address of the machine, and `::` every address.
    #[serde(deserialize_with = "values::some_text")]
    pub host: Option<String>,
    /// The port to listen on. Default 8080. 0 lets the system choose one, which is logged.
    #[serde(deserialize_with = "values::count_or_zero")]
    pub port: Option<u16>,
    /// The path below which its pages are served. Default `/`.
    #[serde(deserialize_with = "values::path")]
    pub path: Option<String>,
    /// The path prefix that browsers see, if a proxy removes it. Default none.
    #[serde(deserialize_with = "values::path")]
    pub base: Option<String>,
    /// The name of this installation, such as `production`, for titles and headers of pages. Default none.
    #[serde(deserialize_with = "values::some_text")]
    pub name: Option<String>,
    /// The title of the monitor. Default `asynqueue`.
    #[serde(deserialize_with = "values::some_text")]
    pub title: Option<String>,
    /// The color of this installation, such as `red` or `#b3261e`, for the header and the icon of pages. Default none.
    #[serde(deserialize_with = "values::some_text")]
    pub color: Option<String>,
    /// The name of an administrator, together with [`password`](Self::password). A short form for one account in
    /// [`users`](Self::users).
    #[serde(deserialize_with = "values::some_text")]
    pub username: Option<String>,
    /// The administrator's password, or its argon2 hash.
    pub password: Option<Password>,
    /// The accounts, by name. Without any, and without a `username`, anyone who can reach the monitor has full access.
    pub users: BTreeMap<String, Account>,
    /// Whether all changes are disabled, regardless of the role. Default `false`.
    #[serde(deserialize_with = "values::flag")]
    pub read_only: Option<bool>,
    /// Names of fields whose values are hidden in payloads and results, such as `password`. Default none.
    #[serde(deserialize_with = "values::texts")]
    pub redact: Option<Vec<String>>,
    /// How long a bulk change or a deletion can be undone before it starts. Default 5 s.
    #[serde(deserialize_with = "values::duration")]
    pub grace: Option<Duration>,
    /// Whether to serve other machines without any account. Default `false`: this is refused.
    #[serde(deserialize_with = "values::flag")]
    pub open_to_all: Option<bool>,
    /// The URL of a Prometheus server for charts, such as `http://prometheus:9090`. It may contain a password. Default
    /// none.
    #[serde(deserialize_with = "values::some_text")]
    pub prometheus: Option<String>,
    /// URLs that receive a JSON request when a problem needs attention, and when it has cleared. Default none.
    #[serde(deserialize_with = "values::texts")]
    pub webhooks: Option<Vec<String>>,
    /// The same for URLs of Slack and compatible chats. Default none.
    #[serde(deserialize_with = "values::texts")]
    pub slack: Option<Vec<String>>,
}

/// A user of the web monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "a table with `password` and `role`"
)]
#[non_exhaustive]
pub struct Account {
    /// The password, or its argon2 hash. Required.
    pub password: Option<Password>,
    /// The role of the account. Default viewer.
    #[serde(deserialize_with = "values::role")]
    pub role: Option<AccountRole>,
}

/// The role of an [`Account`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AccountRole {
    /// Sees everything and changes nothing: `"viewer"`.
    Viewer,
    /// Can also make changes: `"admin"`.
    Admin,
}

impl Account {
    /// An account with a password, or its argon2 hash.
    pub fn new(password: impl Into<String>, role: AccountRole) -> Self {
        Self {
            password: Some(Password::new(password)),
            role: Some(role),
        }
    }

    fn or(self, other: Self) -> Self {
        Self {
            password: self.password.or(other.password),
            role: self.role.or(other.role),
        }
    }
}

impl Scheduling {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            enable: self.enable.or(other.enable),
            file: self.file.or(other.file),
            owner: self.owner.or(other.owner),
        }
    }
}

impl Metrics {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            address: self.address.or(other.address),
            max_queues: self.max_queues.or(other.max_queues),
        }
    }
}

impl Monitoring {
    /// Whether the monitor is enabled.
    pub fn is_enabled(&self) -> bool {
        self.enable == Some(true)
    }

    /// The address to listen on: [`host`](Self::host) and [`port`](Self::port), or their defaults.
    pub fn address(&self) -> String {
        let host = self.host.as_deref().unwrap_or("127.0.0.1");
        let port = self.port.unwrap_or(8080);
        // An IPv6 address needs brackets before the port.
        match host.contains(':') && !host.starts_with('[') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        }
    }

    pub(super) fn or(self, other: Self) -> Self {
        let mut users = self.users;
        for (name, account) in other.users {
            let mine = users.remove(&name).unwrap_or_default();
            users.insert(name, mine.or(account));
        }
        Self {
            enable: self.enable.or(other.enable),
            host: self.host.or(other.host),
            port: self.port.or(other.port),
            path: self.path.or(other.path),
            base: self.base.or(other.base),
            name: self.name.or(other.name),
            title: self.title.or(other.title),
            color: self.color.or(other.color),
            username: self.username.or(other.username),
            password: self.password.or(other.password),
            users,
            read_only: self.read_only.or(other.read_only),
            redact: self.redact.or(other.redact),
            grace: self.grace.or(other.grace),
            open_to_all: self.open_to_all.or(other.open_to_all),
            prometheus: self.prometheus.or(other.prometheus),
            webhooks: self.webhooks.or(other.webhooks),
            slack: self.slack.or(other.slack),
        }
    }
}

/// All entries of `first`, and those of `second` with other keys.
pub(super) fn union<K: Ord, V>(first: BTreeMap<K, V>, second: BTreeMap<K, V>) -> BTreeMap<K, V> {
    let mut all = second;
    all.extend(first);
    all
}

impl fmt::Debug for Monitoring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitoring")
            .field("enable", &self.enable)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("path", &self.path)
            .field("base", &self.base)
            .field("name", &self.name)
            .field("title", &self.title)
            .field("color", &self.color)
            .field("username", &self.username)
            .field("password", &self.password)
            .field("users", &self.users)
            .field("read_only", &self.read_only)
            .field("redact", &self.redact)
            .field("grace", &self.grace)
            .field("open_to_all", &self.open_to_all)
            // These URLs may contain passwords.
            .field(
                "prometheus",
                &self.prometheus.as_ref().map(|_| format_args!("…")),
            )
            .field("webhooks", &self.webhooks.as_ref().map(Vec::len))
            .field("slack", &self.slack.as_ref().map(Vec::len))
            .finish()
    }
}
