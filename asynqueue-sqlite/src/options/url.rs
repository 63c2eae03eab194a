//! Parses URLs.

use std::{collections::HashSet, path::PathBuf, time::Duration};

use asynqueue_core::duration::parse_millis;
use percent_encoding::percent_decode_str;

use super::{OptionsError, Place, SqliteDurability, SqliteOptions};

pub(super) fn read(url: &str) -> Result<SqliteOptions, OptionsError> {
    let rest = url.strip_prefix("sqlite:");
    let rest = rest.ok_or_else(|| OptionsError::Scheme(url.to_owned()))?;
    if let Some((_, fragment)) = rest.split_once('#') {
        return Err(OptionsError::Fragment(fragment.to_owned()));
    }
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = SqliteOptions::at(place(path)?);
    let mut names = HashSet::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !names.insert(name) {
            return Err(OptionsError::Repeated(name.to_owned()));
        }
        let value = decoded(value).map_err(|_| OptionsError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: "expected percent-encoded UTF-8".to_owned(),
        })?;
        set(&mut options, name, &value)?;
    }
    Ok(options)
}

fn place(path: &str) -> Result<Place, OptionsError> {
    if path == ":memory:" {
        return Ok(Place::Memory);
    }
    let encoded = path.strip_prefix("//").unwrap_or(path);
    match decoded(encoded)? {
        path if path.is_empty() => Err(OptionsError::NoPath),
        path if path.ends_with('/') => Err(OptionsError::Folder(path)),
        path if path.contains('\0') => Err(OptionsError::Nul(encoded.to_owned())),
        path if path == ":memory:" => Ok(Place::Memory),
        path if path.starts_with(':') || path == "memory:" => Err(OptionsError::Memory(path)),
        path => Ok(Place::File(PathBuf::from(path))),
    }
}

fn decoded(text: &str) -> Result<String, OptionsError> {
    let invalid = || OptionsError::Encoding(text.to_owned());
    // The decoder leaves a percent sign without a number as it is.
    let is_number = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if !text.split('%').skip(1).all(is_number) {
        return Err(invalid());
    }
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| invalid())?.into_owned())
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
            ("sqlite://a%20b%3F%231.db", "a b?#1.db"),
            ("sqlite://./:memory", "./:memory"),
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
                "path `/var/` is that of a folder: name a file in it, such as `/var/tasks.db`",
            ),
            (
                "sqlite::memory",
                "path `:memory` is not that of a file: write `sqlite::memory:` for a database in memory, or `sqlite://./:memory` for a file",
            ),
            (
                "sqlite:memory:",
                "path `memory:` is not that of a file: write `sqlite::memory:` for a database in memory, or `sqlite://./memory:` for a file",
            ),
            (
                "sqlite://%ZZ.db",
                "path `%ZZ.db` is not percent-encoded UTF-8: write `%25` for a percent sign and `%3F` for a question mark",
            ),
            (
                "sqlite://100%",
                "path `100%` is not percent-encoded UTF-8: write `%25` for a percent sign and `%3F` for a question mark",
            ),
            (
                "sqlite://t.db?durability=%ZZ",
                "parameter `durability` is `%ZZ`: expected percent-encoded UTF-8",
            ),
            (
                "sqlite://a%00b.db",
                "path `a%00b.db` has a NUL byte: remove `%00`",
            ),
            (
                "sqlite://t.db?durability=full#top",
                "the SQLite URL has a fragment, `#top`: remove it, or write `%23` for a `#` in the path",
            ),
            (
                "sqlite://t.db?durability=full&durability=normal",
                "parameter `durability` is given more than once: keep one of them",
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
