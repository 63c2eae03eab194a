//! Reading settings: text, then what the environment has in its place.

use std::{fs, path::Path};

use ::config::{ConfigError as Problem, Environment, File, FileFormat};

use super::{Config, ConfigError};

/// The text of settings, and its format.
struct Text {
    format: FileFormat,
    text: String,
}

impl Config {
    /// Reads TOML.
    ///
    /// # Errors
    ///
    /// When it is not TOML, has a key that is not known, or a value that makes no sense; the message names it.
    pub fn from_toml(toml: &str) -> Result<Self, ConfigError> {
        let format = FileFormat::Toml;
        let text = toml.into();
        read("the TOML", Some(Text { format, text }), None)
    }

    /// Reads JSON.
    ///
    /// # Errors
    ///
    /// When it is not JSON, has a key that is not known, or a value that makes no sense; the message names it.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let format = FileFormat::Json;
        let text = json.into();
        read("the JSON", Some(Text { format, text }), None)
    }

    /// Reads a file, by the ending of its name: `.toml` or `.json`.
    ///
    /// # Errors
    ///
    /// When it cannot be read, has another ending, or its settings make no sense.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        read(&quoted(path), Some(Text::of(path)?), None)
    }

    /// Reads a file, if there is one to be read, and then the environment, whose variables take precedence.
    ///
    /// A variable is named `ASYNQUEUE_` and the key in capitals, with two underscores for each level:
    /// `ASYNQUEUE_ADDR`, `ASYNQUEUE_SHUTDOWN_TIMEOUT`, `ASYNQUEUE_QUEUE__CRITICAL`, `ASYNQUEUE_MONITORING__PORT`. Names of
    /// queues are in lower case there.
    ///
    /// # Errors
    ///
    /// As [`from_file`](Self::from_file), and when a variable that begins with `ASYNQUEUE_` is of no known key.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        load(path, Environment::default())
    }
}

/// Reads the file, then `environment`.
fn load(path: Option<&Path>, environment: Environment) -> Result<Config, ConfigError> {
    let environment = environment
        .prefix("ASYNQUEUE")
        .prefix_separator("_")
        .separator("__");
    let text = path.map(Text::of).transpose()?;
    let origin = match path {
        Some(path) => format!("{} and the variables `ASYNQUEUE_…`", quoted(path)),
        None => "the variables `ASYNQUEUE_…`".into(),
    };
    read(&origin, text, Some(environment))
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

impl Text {
    fn of(path: &Path) -> Result<Self, ConfigError> {
        let format = match path.extension().and_then(|ending| ending.to_str()) {
            Some("toml") => FileFormat::Toml,
            Some("json") => FileFormat::Json,
            _ => {
                return Err(ConfigError::Format {
                    path: path.to_owned(),
                });
            }
        };
        match fs::read_to_string(path) {
            Ok(text) => Ok(Self { format, text }),
            Err(source) => Err(ConfigError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }
}

fn read(
    origin: &str,
    text: Option<Text>,
    environment: Option<Environment>,
) -> Result<Config, ConfigError> {
    let mut sources = ::config::Config::builder();
    if let Some(Text { format, text }) = text {
        sources = sources.add_source(File::from_str(&text, format));
    }
    if let Some(environment) = environment {
        sources = sources.add_source(environment);
    }
    sources
        .build()
        .and_then(::config::Config::try_deserialize)
        .map_err(|problem| ConfigError::Invalid {
            origin: origin.into(),
            problem: describe(&problem),
        })
}

/// The problem, with the key first.
fn describe(problem: &Problem) -> String {
    match problem {
        Problem::NotFound(key) if key == "addr" => {
            "`addr` is missing: write the broker's URL, such as `memory:`".into()
        }
        Problem::At {
            error,
            key: Some(key),
            ..
        } => format!("`{key}`: {error}"),
        Problem::FileParse { cause, .. } => without_quotes(&cause.to_string()),
        other => other.to_string(),
    }
}

/// Leaves out the lines that a parser quotes, behind a bar: they may have a password.
fn without_quotes(message: &str) -> String {
    let told: Vec<_> = message
        .lines()
        .filter(|line| {
            !line
                .split_once('|')
                .is_some_and(|(gutter, _)| is_gutter(gutter))
        })
        .collect();
    told.join(": ")
}

fn is_gutter(text: &str) -> bool {
    text.bytes().all(|b| b == b' ' || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Environment {
        let pairs = pairs.iter().map(|&(key, value)| (key.into(), value.into()));
        Environment::default().source(Some(pairs.collect()))
    }

    #[test]
    fn the_environment_takes_precedence_over_the_file() {
        let path = std::env::temp_dir().join(format!("asynqueue-{}.toml", std::process::id()));
        let toml = "addr = 'memory:'\nconcurrency = 4\n[queue]\ncritical = 6\n";
        fs::write(&path, toml).expect("a writable directory");
        let environment = variables(&[
            ("ASYNQUEUE_CONCURRENCY", "8"),
            ("ASYNQUEUE_LEASE", "1m"),
            ("ASYNQUEUE_STRICT_PRIORITY", "true"),
            ("ASYNQUEUE_QUEUE__DEFAULT", "3"),
            ("ASYNQUEUE_MONITORING__PORT", "9000"),
            ("ASYNQUEUE_MONITORING__PASSWORD", "007"),
            ("HOME", "/"),
        ]);
        let config = load(Some(&path), environment);
        fs::remove_file(&path).expect("it was there");
        let config = config.expect("valid");
        assert_eq!(
            (config.addr.as_str(), config.concurrency),
            ("memory:", Some(8))
        );
        assert_eq!(config.lease, Some(std::time::Duration::from_secs(60)));
        assert!(config.strict_priority);
        let queues: Vec<_> = config.queue.iter().map(|(q, w)| (q.as_str(), *w)).collect();
        assert_eq!(queues, [("critical", 6), ("default", 3)]);
        assert_eq!(config.monitoring.port, 9000);
        let password = config.monitoring.password.expect("set");
        assert_eq!(password.reveal(), "007", "text stays text");
    }

    #[test]
    fn the_environment_alone_will_do() {
        let config = load(None, variables(&[("ASYNQUEUE_ADDR", "memory:")]));
        assert_eq!(config.expect("valid"), Config::new("memory:"));
    }

    #[test]
    fn variables_that_make_no_sense_are_refused_by_name() {
        for (variable, value, part) in [
            (
                "ASYNQUEUE_CONCURENCY",
                "8",
                "unknown field `concurency`, expected one of `addr`",
            ),
            (
                "ASYNQUEUE_CONCURRENCY",
                "many",
                "`concurrency`: invalid value: string \"many\"",
            ),
            (
                "ASYNQUEUE_MONITORING__PRT",
                "1",
                "`monitoring`: unknown field `prt`, expected",
            ),
            (
                "ASYNQUEUE_STRICT_PRIORITY",
                "yes",
                "`strict_priority`: invalid value: string \"yes\"",
            ),
        ] {
            let environment = variables(&[("ASYNQUEUE_ADDR", "memory:"), (variable, value)]);
            let error = load(None, environment).expect_err(variable).to_string();
            assert!(error.starts_with("the settings in the variables `ASYNQUEUE_…` are wrong: "));
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_line_that_is_not_toml_is_not_quoted() {
        let error = Config::from_toml("addr = 'memory:'\n[monitoring]\npassword = hunter2\n");
        let error = error.expect_err("not TOML").to_string();
        assert!(error.contains("line 3"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
