//! The brokers of the monitor: one URL, or several with names.

use asynqueue::layer::BoxError;

/// The name of a broker among several, and its URL.
pub(super) type Named = (Option<String>, String);

/// Reads values such as `redis://localhost` or `eu=redis://eu`. A value may contain several with names, separated by
/// spaces, because a variable has one value.
///
/// # Errors
///
/// If one of several has no name. The message contains no URL, because URLs may contain passwords.
pub(super) fn read(values: &[String]) -> Result<Vec<Named>, BoxError> {
    let mut brokers = Vec::new();
    for value in values {
        match named(value.trim()) {
            // A path of SQLite may contain spaces.
            (None, url) => brokers.push((None, url.to_owned())),
            _ => brokers.extend(value.split_whitespace().map(|part| {
                let (name, url) = named(part);
                (name.map(str::to_owned), url.to_owned())
            })),
        }
    }
    let without = brokers.iter().filter(|(name, _)| name.is_none()).count();
    match without > 0 && brokers.len() > 1 {
        true => Err(format!(
            "{without} of {} brokers have no name: write `--broker NAME=URL` for each, such as `--broker eu=redis://localhost`",
            brokers.len()
        )
        .into()),
        false => Ok(brokers),
    }
}

/// The name before a URL. A `=` in the URL itself is behind its scheme.
fn named(value: &str) -> (Option<&str>, &str) {
    match value.split_once('=') {
        Some((name, url)) if !name.contains([':', '/']) => (Some(name), url),
        _ => (None, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Vec<Named>, String> {
        let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
        read(&values).map_err(|error| error.to_string())
    }

    fn pair(name: &str, url: &str) -> Named {
        (Some(name.to_owned()), url.to_owned())
    }

    #[test]
    fn a_name_precedes_a_url_and_is_not_a_part_of_it() {
        for url in [
            "redis://localhost",
            "redis+sentinel://a:1?master=m",
            "postgres://shop@db/shop?migrate=false",
            "sqlite:///var/my tasks.db?a=b",
            "memory:",
        ] {
            assert_eq!(of(&[url]), Ok(vec![(None, url.to_owned())]));
            let named = format!("eu={url}");
            if !url.contains(' ') {
                assert_eq!(of(&[&named]), Ok(vec![pair("eu", url)]));
            }
        }
        let expected = vec![pair("eu", "redis://a"), pair("us", "redis://b?db=1")];
        assert_eq!(
            of(&["eu=redis://a", "us=redis://b?db=1"]).as_ref(),
            Ok(&expected)
        );
        assert_eq!(of(&["eu=redis://a  us=redis://b?db=1"]), Ok(expected));
    }

    #[test]
    fn of_several_brokers_each_has_a_name() {
        let why = of(&["eu=redis://a", "redis://:hunter2@b"]).expect_err("no name");
        assert!(why.starts_with("1 of 2 brokers have no name: "), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
    }
}
