//! Parses URLs.

use std::{path::PathBuf, time::Duration};

use asynqueue_core::duration::parse_millis;
use percent_encoding::percent_decode_str;

use super::{OptionsError, Place, SqliteDurability, SqliteOptions};

pub(super) fn read(url: &str) -> Result<SqliteOptions, OptionsError> {
    let rest = url.strip_prefix("sqlite:");
    let rest = rest.ok_or_else(|| OptionsError::Scheme(url.to_owned()))?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = SqliteOptions::at(place(path)?);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        set(&mut options, name, &decoded(value)?)?;
    }
    Ok(options)
}

fn place(path: &str) -> Result<Place, OptionsError> {
    if path == ":memory:" {
        return Ok(Place::Memory);
    }
    match decoded(path.strip_prefix("//").unwrap_or(path))? {
        path if path.is_empty() || path.ends_with('/') => Err(OptionsError::NoPath),
        path if path == ":memory:" => Ok(Place::Memory),
        path => Ok(Place::File(PathBuf::from(path))),
    }
}

fn decoded(text: &str) -> Result<String, OptionsError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| OptionsError::Encoding(text.to_owned()))?;
    Ok(decoded.into_owned())
}

fn set(options: &mut SqliteOptions, name: &str, value: &str) -> Result<(), OptionsError> {
    let invalid = |expected: String| OptionsError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        expected,
    };
    match name {
        "durability" => {
            options.durability = match value {
                "full" => SqliteDurability::Full,
                "normal" => SqliteDurability::Normal,
                _ => return Err(invalid("expected `full` or `normal`".to_owned())),
            };
        }
        "busy_timeout" => {
            options.busy_timeout = Duration::from_millis(parse_millis(value).map_err(invalid)?);
        }
        _ => return Err(OptionsError::Parameter(name.to_owned())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_file_or_memory() {
        for (url, path) in [
            ("sqlite://tasks.db", "tasks.db"),
            ("sqlite:tasks.db", "tasks.db"),
            ("sqlite://data/tasks.db", "data/tasks.db"),
            (
                "sqlite:///var/lib/tasks.db?durability=normal",
                "/var/lib/tasks.db",
            ),
            ("sqlite://a%20b%3F.db", "a b?.db"),
        ] {
            let options = read(url).expect(url);
            assert_eq!(options.place, Place::File(path.into()), "{url}");
        }
        for url in ["sqlite::memory:", "sqlite://:memory:"] {
            assert_eq!(read(url).expect(url).place, Place::Memory);
        }
    }

    #[test]
    fn parameters_are_options() {
        let options = read("sqlite://t.db?durability=normal&busy_timeout=250ms").expect("a URL");
        assert_eq!(options.durability, SqliteDurability::Normal);
        assert_eq!(options.busy_timeout, Duration::from_millis(250));
        let default = read("sqlite://t.db").expect("a URL");
        assert_eq!(default.durability, SqliteDurability::Full);
        assert_eq!(default.busy_timeout, Duration::from_secs(5));
    }

    #[test]
    fn an_invalid_url_is_refused_with_what_to_write() {
        for (url, expected) in [
            (
                "tasks.db",
                "`tasks.db` is not a SQLite URL: write `sqlite://tasks.db`, or `sqlite:///` and an absolute path",
            ),
            (
                "sqlite://",
                "the SQLite URL has no path: write `sqlite://tasks.db`, or `sqlite::memory:` for a database in memory",
            ),
            (
                "sqlite:///var/",
                "the SQLite URL has no path: write `sqlite://tasks.db`, or `sqlite::memory:` for a database in memory",
            ),
            (
                "sqlite://%ff.db",
                "path `%ff.db` is not percent-encoded UTF-8: write `%25` for a percent sign and `%3F` for a question mark",
            ),
            (
                "sqlite://t.db?sync=off",
                "unknown parameter `sync`: expected `durability` or `busy_timeout`",
            ),
            (
                "sqlite://t.db?durability=off",
                "parameter `durability` is `off`: expected `full` or `normal`",
            ),
            (
                "sqlite://t.db?busy_timeout=5",
                "parameter `busy_timeout` is `5`: `5` has no unit; write `5s`",
            ),
        ] {
            let error = read(url).expect_err(url).to_string();
            assert!(error.starts_with(expected), "{url}: {error}");
        }
    }
}
