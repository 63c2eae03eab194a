//! Loading settings: a file first, then the environment, which overrides it.

use std::{fs, path::Path};

use serde::Deserialize;

use super::{
    Config, ConfigError,
    document::{Fault, Node, Place},
    environment,
    text::{Format, line_and_column, parse},
};

impl Config {
    /// Parses TOML.
    ///
    /// # Errors
    ///
    /// When it is not valid TOML, has an unknown key or an invalid value, or lacks `addr`. The message names the key
    /// and its line.
    pub fn from_toml(toml: &str) -> Result<Self, ConfigError> {
        read("the TOML", Format::Toml, toml)?.complete("the TOML")
    }

    /// Parses JSON.
    ///
    /// # Errors
    ///
    /// When it is not valid JSON, has an unknown key or an invalid value, or lacks `addr`. The message names the key
    /// and its line.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        read("the JSON", Format::Json, json)?.complete("the JSON")
    }

    /// Loads a file, by its extension: `.toml` or `.json`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, has another extension, or its settings are invalid.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        read_file(path)?.complete(&quoted(path))
    }

    /// Loads a file, if given, and then the environment, which overrides the file.
    ///
    /// The name of a variable is `ASYNQUEUE_` and the key in upper case, with two underscores per level:
    /// `ASYNQUEUE_ADDR`, `ASYNQUEUE_SHUTDOWN_TIMEOUT`, `ASYNQUEUE_QUEUE__CRITICAL`, `ASYNQUEUE_MONITORING__PORT`. Names
    /// of queues and users are converted to lower case; the items of a list are separated by commas.
    ///
    /// Other variables that start with `ASYNQUEUE_` are ignored and logged at the level `debug`: Kubernetes sets some
    /// in each pod if a Service is named `asynqueue`. A variable whose name is close to a known one is refused as a
    /// likely typo.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file), and when a variable is invalid or a likely typo. The message names it.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Self::default().with_environment();
        };
        layer(read_file(path)?, environment::of_process())?
            .complete(&format!("{} and the environment", quoted(path)))
    }

    /// Applies the environment variables to these settings, as [`load`](Self::load) does: for settings that are part of
    /// your own, loaded by other means.
    ///
    /// ```
    /// use asynqueue_core::config::Config;
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Settings {
    ///     greeting: String,
    ///     tasks: Config,
    /// }
    ///
    /// let settings = r#"{"greeting": "Hello", "tasks": {"addr": "memory:"}}"#;
    /// let settings: Settings = serde_json::from_str(settings)?;
    /// let config = settings.tasks.with_environment()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When a variable is invalid or a likely typo, or `addr` is not set.
    pub fn with_environment(self) -> Result<Self, ConfigError> {
        layer(self, environment::of_process())?.complete("the environment")
    }

    /// These settings, if `addr` is set.
    fn complete(self, origin: &str) -> Result<Self, ConfigError> {
        if !self.addr.is_empty() {
            return Ok(self);
        }
        Err(ConfigError::Invalid {
            place: origin.to_owned(),
            problem: "`addr` is missing: set it to the broker's URL, such as `memory:`, or set the variable \
                      `ASYNQUEUE_ADDR`"
                .into(),
        })
    }
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

fn read_file(path: &Path) -> Result<Config, ConfigError> {
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => Format::Toml,
        Some("json") => Format::Json,
        _ => {
            return Err(ConfigError::Format {
                path: path.to_owned(),
            });
        }
    };
    let text = fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    read(&quoted(path), format, &text)
}

fn read(origin: &str, format: Format, text: &str) -> Result<Config, ConfigError> {
    let document = parse(format, text);
    let config = document.and_then(|document| Config::deserialize(&document));
    config.map_err(|fault| {
        let place = match &fault.place {
            Some(Place::Text(offset)) => {
                let (line, column) = line_and_column(text, *offset);
                format!("{origin}, line {line}, column {column}")
            }
            _ => origin.to_owned(),
        };
        invalid(place, &fault)
    })
}

/// Overrides settings with those of the environment.
fn layer(config: Config, variables: Result<Node, Fault>) -> Result<Config, ConfigError> {
    let over = variables.and_then(|variables| Config::deserialize(&variables));
    let over = over.map_err(|fault| {
        let place = match &fault.place {
            Some(Place::Variable(variable)) => format!("the variable `{variable}`"),
            _ => "the environment".into(),
        };
        invalid(place, &fault)
    })?;
    Ok(over.or(config))
}

fn invalid(place: String, fault: &Fault) -> ConfigError {
    ConfigError::Invalid {
        place,
        problem: fault.describe(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Account, AccountRole};

    fn layered(config: Config, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter();
        let variables = variables.map(|&(name, value)| (name.into(), value.into()));
        layer(config, environment::read(variables))
    }

    #[test]
    fn the_environment_takes_precedence_over_the_file() {
        let toml = "addr = 'memory:'\nconcurrency = 4\nstrict_priority = true\n[queue]\ncritical = 6\n\
                    [monitoring]\nenable = true\n[monitoring.users.ada]\nrole = 'admin'\n";
        let file = Config::from_toml(toml).expect("valid");
        let config = layered(
            file,
            &[
                ("ASYNQUEUE_CONCURRENCY", "8"),
                ("ASYNQUEUE_LEASE", "1m"),
                ("ASYNQUEUE_STRICT_PRIORITY", "false"),
                ("ASYNQUEUE_QUEUE__DEFAULT", "3"),
                ("ASYNQUEUE_MONITORING__PORT", "9000"),
                ("ASYNQUEUE_MONITORING__PASSWORD", "007"),
                ("ASYNQUEUE_MONITORING__USERS__ADA__PASSWORD", "secret"),
                ("ASYNQUEUE_MONITORING__REDACT", "password, iban"),
                ("ASYNQUEUE_METRICS__ADDRESS", "127.0.0.1:9464"),
                ("ASYNQUEUE_SCHEDULER__FILE", "schedule.toml"),
                ("HOME", "/"),
            ],
        );
        let config = config.expect("valid");
        assert_eq!(
            (config.addr.as_str(), config.concurrency, config.lease),
            ("memory:", Some(8), Some(Duration::from_secs(60)))
        );
        assert_eq!(config.strict_priority, Some(false));
        let queues: Vec<_> = config.queue.iter().map(|(q, w)| (q.as_str(), *w)).collect();
        assert_eq!(queues, [("critical", 6), ("default", 3)]);
        let monitoring = config.monitoring;
        assert_eq!(
            (monitoring.enable, monitoring.port),
            (Some(true), Some(9000))
        );
        let password = monitoring.password.expect("set");
        assert_eq!(password.reveal(), "007", "text is kept as text");
        assert_eq!(
            monitoring.users["ada"],
            Account::new("secret", AccountRole::Admin),
            "the role is from the file"
        );
        assert_eq!(
            monitoring.redact,
            Some(vec!["password".into(), "iban".into()])
        );
        assert_eq!(config.metrics.address.as_deref(), Some("127.0.0.1:9464"));
        assert_eq!(config.scheduler.file.as_deref(), Some("schedule.toml"));
    }

    #[test]
    fn settings_from_the_environment_alone_are_complete() {
        let config = layered(Config::default(), &[("ASYNQUEUE_ADDR", "memory:")]);
        assert_eq!(config.expect("valid"), Config::new("memory:"));
    }

    #[test]
    fn an_invalid_variable_is_named_and_its_secret_is_not_quoted() {
        for (variable, value, problem) in [
            (
                "ASYNQUEUE_CONCURENCY",
                "8",
                "unknown variable: did you mean `ASYNQUEUE_CONCURRENCY`?",
            ),
            (
                "ASYNQUEUE_CONCURRENCY",
                "many",
                "`concurrency`: invalid value: string \"many\", expected a whole number from 1 to 1000000",
            ),
            (
                "ASYNQUEUE_CONCURRENCY",
                "1000001",
                "`concurrency`: invalid value: integer `1000001`, expected a whole number from 1 to 1000000",
            ),
            (
                "ASYNQUEUE_CONCURRENCY",
                "18446744073709551616",
                "`concurrency`: invalid value: string \"18446744073709551616\", expected a whole number from 1 to 1000000",
            ),
            (
                "ASYNQUEUE_QUEUE__CRITICAL",
                "4294967296",
                "`queue.critical`: invalid value: integer `4294967296`, expected a whole number from 1 to 4294967295",
            ),
            (
                "ASYNQUEUE_STRICT_PRIORITY",
                "yes",
                "`strict_priority`: invalid value: string \"yes\", expected `true` or `false`",
            ),
            (
                "ASYNQUEUE_QUEUE__CRITICAL",
                "0",
                "`queue.critical`: invalid value: integer `0`, expected a whole number from 1",
            ),
            (
                "ASYNQUEUE_MONITORING__USERS__ADA",
                "hunter2",
                "unknown variable: did you mean `ASYNQUEUE_MONITORING__USERS__ADA__PASSWORD`?",
            ),
            (
                "ASYNQUEUE_MONITORING__USERS__ADA__PASSWD",
                "hunter2",
                "unknown variable: did you mean `ASYNQUEUE_MONITORING__USERS__ADA__PASSWORD`?",
            ),
        ] {
            let error = layered(Config::new("memory:"), &[(variable, value)]);
            let error = error.expect_err(variable).to_string();
            let start = format!("invalid settings in the variable `{variable}`: {problem}");
            assert!(error.starts_with(&start), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
