//! Settings in environment variables.
//!
//! A file is written for this program only, so an unknown key in it is an error. The environment is shared: Kubernetes
//! adds the addresses of services, and the `asynqueue` command has its own variables. A variable is therefore refused
//! only if its name is close to a known one.

use std::{env, ffi::OsString};

use serde::{
    Deserialize,
    de::{self, Deserializer, Visitor, value::Error as Plain},
    forward_to_deserialize_any,
};

use super::{
    Account, Config, Metrics, Monitoring, Scheduling,
    document::{Content, Fault, Key, Node, Place},
};
use crate::suggest::closest_within;

const PREFIX: &str = "ASYNQUEUE_";

/// Variables of the `asynqueue` command.
const OF_THE_COMMAND: [&str; 11] = [
    "BROKER",
    "MONITOR_COLOR",
    "MONITOR_NAME",
    "MONITOR_PASSWORD",
    "MONITOR_SLACK",
    "MONITOR_TITLE",
    "MONITOR_USERS",
    "MONITOR_USERS_FILE",
    "MONITOR_WEBHOOKS",
    "MOVE_FROM",
    "MOVE_TO",
];

/// The settings in the environment of this process.
pub(super) fn of_process() -> Result<Node, Fault> {
    read(env::vars_os())
}

/// The settings in the given variables.
pub(super) fn read(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Node, Fault> {
    // Sorted, so that of several problems the same one is reported each time.
    let mut ours: Vec<_> = variables
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value)))
        .filter(|(name, _)| name.starts_with(PREFIX))
        .collect();
    ours.sort();
    let mut root = table();
    for (variable, value) in ours {
        let rest = &variable[PREFIX.len()..];
        let place = Place::Variable(variable.clone());
        let Some(path) = path_of(rest) else {
            let value = value.to_string_lossy();
            if let Some(meant) = meant(rest, &value) {
                let problem = format!("unknown variable: did you mean `{PREFIX}{meant}`?");
                return Err(Fault::new(place, problem));
            }
            tracing::debug!(%variable, "ignoring unknown environment variable");
            continue;
        };
        let Ok(value) = value.into_string() else {
            return Err(Fault::new(place, "the value is not UTF-8"));
        };
        put(&mut root, &path, value, &place);
    }
    Ok(Node {
        place: Place::Variable(format!("{PREFIX}…")),
        content: root,
    })
}

fn table() -> Content {
    Content::Table(Vec::new())
}

/// Sets a value at a path, and creates the tables that lead to it.
fn put(content: &mut Content, path: &[String], value: String, place: &Place) {
    let (Content::Table(entries), Some((name, rest))) = (content, path.split_first()) else {
        return;
    };
    let at = entries.iter().position(|(key, _)| key.name == *name);
    let at = at.unwrap_or_else(|| {
        let key = Key {
            place: place.clone(),
            name: name.clone(),
        };
        let node = Node {
            place: place.clone(),
            content: table(),
        };
        entries.push((key, node));
        entries.len() - 1
    });
    let node = &mut entries[at].1;
    if rest.is_empty() {
        node.content = Content::Text(value);
    } else {
        put(&mut node.content, rest, value, place);
    }
}

/// The key that a variable sets, without the prefix. `None` for an unknown key.
fn path_of(rest: &str) -> Option<Vec<String>> {
    let name = rest.to_lowercase();
    let (first, inner) = match name.split_once("__") {
        Some((first, inner)) => (first, Some(inner)),
        None => (name.as_str(), None),
    };
    let parts = match (first, inner) {
        (map, queue) if MAPS.contains(&map) => vec![map, queue.filter(|queue| !queue.is_empty())?],
        ("monitoring", Some(inner)) if inner.starts_with("users__") => {
            let (user, key) = inner["users__".len()..].rsplit_once("__")?;
            let known = !user.is_empty() && fields_of::<Account>().contains(&key);
            known.then(|| vec![first, "users", user, key])?
        }
        (section, Some(key)) => {
            let known = key != "users" && section_of(section)?.contains(&key);
            known.then(|| vec![section, key])?
        }
        (section, None) if section_of(section).is_some() => return None,
        (key, None) => fields_of::<Config>().contains(&key).then(|| vec![key])?,
    };
    Some(parts.into_iter().map(str::to_owned).collect())
}

/// The variable that was most likely meant by an unknown one.
fn meant(rest: &str, value: &str) -> Option<String> {
    if OF_THE_COMMAND.contains(&rest) || is_service_link(rest, value) {
        return None;
    }
    let name = rest.to_lowercase();
    if value.parse::<u64>().is_ok() {
        // A queue after a single underscore, or without a name.
        for map in MAPS {
            match name.strip_prefix(map) {
                Some("") => return Some(format!("{map}__name").to_uppercase()),
                Some(rest) if rest.starts_with('_') && !rest.starts_with("__") => {
                    return Some(format!("{map}_{rest}").to_uppercase());
                }
                _ => {}
            }
        }
    }
    if let Some(key) = inside(&name) {
        return Some(key);
    }
    let known = known();
    // A short name more likely belongs to another program.
    let limit = (name.chars().count() / 4).clamp(1, 3);
    let near = closest_within(&name, known.iter().map(String::as_str), limit);
    let swapped = || known.iter().find(|known| letters(known) == letters(&name));
    let meant = near.or_else(|| swapped().map(String::as_str));
    let meant = meant.map(|meant| inside(meant).unwrap_or_else(|| meant.to_uppercase()));
    let meant = meant.or_else(|| in_a_table(&name));
    meant.filter(|meant| meant != rest)
}

/// A variable in a table, if only the name of the table was given.
fn inside(table: &str) -> Option<String> {
    let key = match section_of(table) {
        Some(keys) => *keys.first()?,
        None if MAPS.contains(&table) => "name",
        None => return None,
    };
    Some(format!("{table}__{key}").to_uppercase())
}

/// The sorted letters of a name, to recognize transposed ones.
fn letters(name: &str) -> Vec<u8> {
    let mut letters = name.as_bytes().to_vec();
    letters.sort_unstable();
    letters
}

/// Two underscores after the name of a table are used by no other program, however different the rest is.
fn in_a_table(name: &str) -> Option<String> {
    let (typed, rest) = name.split_once("__")?;
    let tables = MAPS.into_iter().chain(SECTIONS);
    let table = closest_within(typed, tables, 2)?;
    let rest = match (section_of(table), rest.strip_prefix("users__")) {
        (None, _) => rest.to_owned(),
        (Some(_), Some(user)) => {
            let (user, _) = user.split_once("__").unwrap_or((user, ""));
            format!("users__{user}__password")
        }
        (Some(keys), None) => {
            let limit = rest.chars().count();
            let near = closest_within(rest, keys.iter().copied(), limit);
            near.or(keys.first().copied())?.to_owned()
        }
    };
    Some(format!("{table}__{rest}").to_uppercase())
}

/// Whether a container platform sets this variable for a service named `asynqueue…`: `SERVICE_HOST`,
/// `SERVICE_PORT_HTTP`, `PORT`, `PORT_6379_TCP_ADDR` and others.
fn is_service_link(rest: &str, value: &str) -> bool {
    let rest = format!("_{rest}");
    let has_protocol = |part: &str| {
        let mut words = part.split('_');
        let port = words.next().is_some_and(|port| port.parse::<u16>().is_ok());
        port && matches!(words.next(), Some("TCP" | "UDP" | "SCTP"))
    };
    rest.ends_with("_SERVICE_HOST")
        || rest.ends_with("_SERVICE_PORT")
        || rest.contains("_SERVICE_PORT_")
        || (rest.ends_with("_PORT") && value.contains("://"))
        || rest.split("_PORT_").skip(1).any(has_protocol)
}

/// Each variable that is one setting, without the prefix and in lower case.
fn known() -> Vec<String> {
    let top = fields_of::<Config>().iter();
    let mut known: Vec<_> = top.map(|key| (*key).to_owned()).collect();
    for section in SECTIONS {
        let keys = section_of(section).unwrap_or_default().iter();
        known.extend(keys.map(|key| format!("{section}__{key}")));
    }
    known
}

/// The tables with a number for each queue.
const MAPS: [&str; 2] = ["queue_concurrency", "queue"];

/// The tables with fixed keys.
pub(super) const SECTIONS: [&str; 3] = ["scheduler", "metrics", "monitoring"];

/// The keys of a section.
fn section_of(name: &str) -> Option<&'static [&'static str]> {
    match name {
        "scheduler" => Some(fields_of::<Scheduling>()),
        "metrics" => Some(fields_of::<Metrics>()),
        "monitoring" => Some(fields_of::<Monitoring>()),
        _ => None,
    }
}

/// The keys of a type, as listed by its `Deserialize` implementation.
pub(super) fn fields_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // Always an error, because nothing is read.
    drop(T::deserialize(Fields(&mut fields)));
    fields
}

/// Reads nothing, and records the fields that a struct expects.
struct Fields<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Fields<'_> {
    type Error = Plain;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Plain> {
        Err(de::Error::custom("nothing is read"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Plain> {
        *self.0 = fields;
        Err(de::Error::custom("nothing is read"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(variable: &str, value: &str) -> Option<String> {
        let fault = read([(variable.into(), value.into())]).err()?;
        let Some(Place::Variable(place)) = &fault.place else {
            panic!("a variable: {fault:?}");
        };
        assert_eq!(place, variable);
        Some(fault.describe())
    }

    #[test]
    fn variables_of_the_platform_and_of_the_command_are_ignored() {
        for (variable, value) in [
            ("ASYNQUEUE_MONITOR_PASSWORD", "x"),
            ("ASYNQUEUE_MONITOR_NAME", "production"),
            ("ASYNQUEUE_BROKER", "redis://localhost"),
            ("ASYNQUEUE_SERVICE_HOST", "10.0.0.1"),
            ("ASYNQUEUE_SERVICE_PORT", "6379"),
            ("ASYNQUEUE_SERVICE_PORT_HTTP", "6379"),
            ("ASYNQUEUE_PORT", "tcp://10.0.0.1:6379"),
            ("ASYNQUEUE_PORT_6379_TCP", "tcp://10.0.0.1:6379"),
            ("ASYNQUEUE_PORT_6379_TCP_ADDR", "10.0.0.1"),
            ("ASYNQUEUE_PORT_6379_TCP_PORT", "6379"),
            ("ASYNQUEUE_PORT_6379_TCP_PROTO", "tcp"),
            ("ASYNQUEUE_MONITORING_PORT", "tcp://10.0.0.1:8080"),
            ("ASYNQUEUE_MONITORING_SERVICE_PORT", "8080"),
            ("ASYNQUEUE_QUEUE_SERVICE_PORT", "8080"),
            ("ASYNQUEUE_METRICS_PORT_9464_TCP_PORT", "9464"),
            ("ASYNQUEUE_NODE", "a"),
            ("ASYNQUEUE_IMAGE_TAG", "1.2"),
            ("ASYNQUEUE_QUEUE_URL", "http://q"),
            ("ASYNQUEUE", "x"),
            ("HOME", "/"),
        ] {
            assert_eq!(refused(variable, value), None, "{variable}");
        }
    }

    #[test]
    fn a_typo_is_refused_with_a_suggestion() {
        for (variable, value, meant) in [
            ("ASYNQUEUE_CONCURENCY", "8", "ASYNQUEUE_CONCURRENCY"),
            ("ASYNQUEUE_ADR", "memory:", "ASYNQUEUE_ADDR"),
            ("ASYNQUEUE_LEASES", "1m", "ASYNQUEUE_LEASE"),
            ("ASYNQUEUE_LAESE", "1m", "ASYNQUEUE_LEASE"),
            (
                "ASYNQUEUE_MONITORING_PORT",
                "80",
                "ASYNQUEUE_MONITORING__PORT",
            ),
            (
                "ASYNQUEUE_MONITORING__PRT",
                "80",
                "ASYNQUEUE_MONITORING__PORT",
            ),
            (
                "ASYNQUEUE_MONITORNG__PORT",
                "80",
                "ASYNQUEUE_MONITORING__PORT",
            ),
            (
                "ASYNQUEUE_METRICS_ADDRESS",
                ":1",
                "ASYNQUEUE_METRICS__ADDRESS",
            ),
            ("ASYNQUEUE_QUEUE_CRITICAL", "6", "ASYNQUEUE_QUEUE__CRITICAL"),
            (
                "ASYNQUEUE_QUEUES__CRITICAL",
                "6",
                "ASYNQUEUE_QUEUE__CRITICAL",
            ),
            ("ASYNQUEUE_QUEUE", "6", "ASYNQUEUE_QUEUE__NAME"),
            ("ASYNQUEUE_QUEUE", "critical", "ASYNQUEUE_QUEUE__NAME"),
            (
                "ASYNQUEUE_MONITORING",
                "true",
                "ASYNQUEUE_MONITORING__ENABLE",
            ),
            ("ASYNQUEUE_METRIC", "on", "ASYNQUEUE_METRICS__ADDRESS"),
        ] {
            let problem = refused(variable, value).unwrap_or_else(|| panic!("{variable}"));
            let expected = format!("unknown variable: did you mean `{meant}`?");
            assert_eq!(problem, expected, "{variable}");
        }
    }

    #[test]
    fn setting_keys_are_known() {
        assert!(fields_of::<Config>().contains(&"concurrency"));
        for section in SECTIONS {
            assert!(fields_of::<Config>().contains(&section), "{section}");
            assert!(section_of(section).is_some_and(|keys| !keys.is_empty()));
        }
    }

    #[test]
    fn each_key_is_documented() {
        let page = include_str!("../../../docs/src/operations/config.md");
        for key in known() {
            let row = format!("\n| `{}` | ", key.replace("__", "."));
            assert!(
                SECTIONS.contains(&key.as_str()) || page.contains(&row),
                "{key} has no row in operations/config.md"
            );
        }
        for key in fields_of::<Account>() {
            assert!(page.contains(&format!("`{key}`")), "{key}");
        }
    }
}
