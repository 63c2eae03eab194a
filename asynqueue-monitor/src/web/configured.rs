//! The monitor from a configuration.

use asynqueue_core::{
    broker::SharedBroker,
    config::{AccountRole, Monitoring},
};

use super::{Monitor, Role};
use crate::{Endpoint, ServeError};

impl Monitor {
    /// Creates the monitor with the users, paths, redaction and permissions of a configuration. It ignores the address
    /// and whether the monitor is enabled: for these, see [`serve_configured`](Self::serve_configured).
    ///
    /// # Errors
    ///
    /// If a setting is invalid. The message names the setting and never contains a password.
    pub fn configured(
        broker: impl Into<SharedBroker>,
        monitoring: &Monitoring,
    ) -> Result<Self, ServeError> {
        let mut monitor = Self::new(broker);
        for (name, password, role) in accounts(monitoring)? {
            monitor = monitor.user(name, password, role)?;
        }
        if let Some(path) = &monitoring.path {
            monitor = monitor.path(path);
        }
        if let Some(base) = &monitoring.base {
            monitor = monitor.base(base);
        }
        if let Some(name) = &monitoring.name {
            monitor = monitor.name(name);
        }
        if let Some(title) = &monitoring.title {
            monitor = monitor.title(title);
        }
        if let Some(color) = &monitoring.color {
            let invalid = |error: ServeError| invalid("color", &error.to_string());
            monitor = monitor.color(color).map_err(invalid)?;
        }
        if let Some(fields) = &monitoring.redact {
            monitor = monitor.redact(fields);
        }
        if let Some(grace) = monitoring.grace {
            monitor = monitor.grace(grace);
        }
        if monitoring.read_only == Some(true) {
            monitor = monitor.read_only();
        }
        if monitoring.open_to_all == Some(true) {
            monitor = monitor.open_to_all();
        }
        if let Some(url) = &monitoring.prometheus {
            monitor = monitor.with_prometheus(url)?;
        }
        for url in monitoring.webhooks.iter().flatten() {
            monitor = monitor.with_webhook(url)?;
        }
        for url in monitoring.slack.iter().flatten() {
            monitor = monitor.with_slack(url)?;
        }
        Ok(monitor)
    }

    /// Serves the monitor of a configuration. Returns `None` if the configuration does not enable it. Without a `host`,
    /// it listens on the loopback address only, with or without users.
    ///
    /// # Errors
    ///
    /// See [`configured`](Self::configured) and [`serve`](Self::serve).
    pub async fn serve_configured(
        broker: impl Into<SharedBroker>,
        monitoring: &Monitoring,
    ) -> Result<Option<Endpoint>, ServeError> {
        if !monitoring.is_enabled() {
            return Ok(None);
        }
        let monitor = Self::configured(broker, monitoring)?;
        Ok(Some(monitor.serve(monitoring.address()).await?))
    }

    #[cfg(feature = "prometheus")]
    fn with_prometheus(self, url: &str) -> Result<Self, ServeError> {
        self.prometheus(url)
    }

    #[cfg(not(feature = "prometheus"))]
    fn with_prometheus(self, _: &str) -> Result<Self, ServeError> {
        let problem = "this program was built without Prometheus charts: enable the feature `prometheus` of asynqueue";
        Err(invalid("prometheus", problem))
    }

    #[cfg(feature = "webhooks")]
    fn with_webhook(self, url: &str) -> Result<Self, ServeError> {
        self.webhook(url)
    }

    #[cfg(feature = "webhooks")]
    fn with_slack(self, url: &str) -> Result<Self, ServeError> {
        self.slack(url)
    }

    #[cfg(not(feature = "webhooks"))]
    fn with_webhook(self, _: &str) -> Result<Self, ServeError> {
        Err(invalid("webhooks", NO_WEBHOOKS))
    }

    #[cfg(not(feature = "webhooks"))]
    fn with_slack(self, _: &str) -> Result<Self, ServeError> {
        Err(invalid("slack", NO_WEBHOOKS))
    }
}

#[cfg(not(feature = "webhooks"))]
const NO_WEBHOOKS: &str =
    "this program was built without notifications: enable the feature `webhooks` of asynqueue";

fn invalid(key: impl Into<String>, problem: &str) -> ServeError {
    ServeError::Setting {
        key: key.into(),
        problem: problem.to_owned(),
    }
}

/// The name, password and role of each user.
fn accounts(monitoring: &Monitoring) -> Result<Vec<(&str, &str, Role)>, ServeError> {
    let mut accounts = Vec::new();
    match (&monitoring.username, &monitoring.password) {
        (Some(name), Some(password)) => {
            accounts.push((name.as_str(), password.reveal(), Role::Admin));
        }
        (None, None) => {}
        (Some(_), None) => return Err(invalid("username", "set `monitoring.password` too")),
        (None, Some(_)) => return Err(invalid("password", "set `monitoring.username` too")),
    }
    for (name, account) in &monitoring.users {
        if monitoring.username.as_ref() == Some(name) {
            let problem = "`monitoring.username` defines the same user: remove one of them";
            return Err(invalid(format!("users.{name}"), problem));
        }
        let Some(password) = &account.password else {
            let problem =
                "the user has no password: set `password` to plain text or an argon2 hash";
            return Err(invalid(format!("users.{name}"), problem));
        };
        let role = match account.role {
            Some(AccountRole::Admin) => Role::Admin,
            _ => Role::Viewer,
        };
        accounts.push((name, password.reveal(), role));
    }
    Ok(accounts)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use asynqueue_core::{config::Config, memory::MemoryBroker};

    use super::*;

    /// The setters of the monitor, each with a line of configuration that has the same effect.
    const SETTERS: [(&str, &str); 13] = [
        ("user", "users.guest.password = 'x'"),
        ("read_only", "read_only = true"),
        ("open_to_all", "open_to_all = true"),
        ("base", "base = '/ops'"),
        ("name", "name = 'production'"),
        ("title", "title = 'Shop'"),
        ("color", "color = 'red'"),
        ("redact", "redact = ['iban']"),
        ("grace", "grace = '9s'"),
        ("prometheus", "prometheus = 'http://prometheus:9090'"),
        ("path", "path = '/tasks'"),
        ("webhook", "webhooks = ['https://hooks.example.com/a']"),
        ("slack", "slack = ['https://hooks.example.com/a']"),
    ];

    #[test]
    fn each_setter_of_the_monitor_is_a_setting() {
        let source = concat!(include_str!("mod.rs"), include_str!("face.rs"));
        let setters = source.match_indices("(mut self").map(|(at, _)| {
            let (_, name) = source[..at].rsplit_once("fn ").expect("a function");
            name
        });
        let setters: BTreeSet<_> = setters.collect();
        assert_eq!(setters, SETTERS.iter().map(|(name, _)| *name).collect());
    }

    #[test]
    fn each_setting_reaches_the_monitor() {
        let monitor = |line: &str| {
            let config = Config::from_toml(&format!("addr = 'memory:'\n[monitoring]\n{line}"));
            Monitor::configured(MemoryBroker::new(), &config.expect(line).monitoring)
        };
        let without = format!("{:?}", monitor("").expect("valid"));
        for (setter, line) in SETTERS {
            let missing = match setter {
                "prometheus" if !cfg!(feature = "prometheus") => Some("prometheus"),
                "webhook" | "slack" if !cfg!(feature = "webhooks") => Some("webhooks"),
                _ => None,
            };
            if let Some(feature) = missing {
                let error = monitor(line).expect_err("without the feature").to_string();
                assert!(
                    error.contains(&format!("`{feature}` of asynqueue")),
                    "{error}"
                );
                continue;
            }
            let with = format!("{:?}", monitor(line).expect(line));
            assert_ne!(with, without, "`{line}` changes nothing");
        }
    }
}
