//! Applies settings to a server.

use super::Config;
use crate::{
    broker::Keep,
    server::{Beyond, ServerBuilder},
};

impl ServerBuilder {
    /// Applies all server settings of `config`. Settings that `config` leaves out keep their current value. Its `addr`
    /// is for the program that connects to the broker.
    ///
    /// [`build`](Self::build) fails if `config` also enables a scheduler, metrics or the web monitor, because a server
    /// runs none of them; `App` of the `asynqueue` crate does.
    // The module has it too, but documentation of other crates takes it from the item alone.
    #[cfg(feature = "config")]
    pub fn config(mut self, config: &Config) -> Self {
        for (queue, weight) in &config.queue {
            self = self.queue(queue, *weight);
        }
        for (queue, max) in &config.queue_concurrency {
            self = self.queue_concurrency(queue, *max);
        }
        if let Some(strict) = config.strict_priority {
            self.strict = strict;
        }
        self.beyond = beyond(config).or(self.beyond);
        let keep = self.settings.keep;
        let keep = Keep {
            archived_for: config.archived_for.unwrap_or(keep.archived_for),
            archived_max: config.archived_max.unwrap_or(keep.archived_max),
        };
        self.keep_archived(keep)
            .set(config.server_name.clone(), Self::name)
            .set(config.concurrency, Self::concurrency)
            .set(config.lease, Self::lease)
            .set(config.poll_interval, Self::poll_interval)
            .set(config.shutdown_timeout, Self::shutdown_timeout)
            .set(config.cancel_grace, Self::cancel_grace)
            .set(config.max_result, Self::max_result)
            .set(config.max_abandoned, Self::max_abandoned)
            .set(config.log_failures, Self::log_failures)
            .set(config.unknown_event_grace, Self::unknown_event_grace)
            .set(config.on_decode_error, Self::on_decode_error)
    }

    fn set<V>(self, value: Option<V>, setter: impl FnOnce(Self, V) -> Self) -> Self {
        match value {
            Some(value) => setter(self, value),
            None => self,
        }
    }
}

/// The first setting that a server does not support.
fn beyond(config: &Config) -> Option<Beyond> {
    let of = |section, key| Some(Beyond { section, key });
    if config.monitoring.is_enabled() {
        of("monitoring", "enable")
    } else if config.metrics.address.is_some() {
        of("metrics", "address")
    } else if config.scheduler.enable == Some(false) {
        None
    } else if config.scheduler.file.is_some() {
        of("scheduler", "file")
    } else if config.scheduler.enable == Some(true) {
        of("scheduler", "enable")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        config::environment::{SECTIONS, fields_of},
        memory::MemoryBroker,
        process::{MaxResult, OnDecodeError},
        server::Server,
    };

    /// The setters of a server that take data, the key of each, and a value for it.
    const DATA: [(&str, &str, &str); 17] = [
        ("name", "server_name", "'worker-1'"),
        ("queue", "queue", "{ a = 1 }"),
        ("queue_concurrency", "queue_concurrency", "{ a = 1 }"),
        ("strict_priority", "strict_priority", "true"),
        ("concurrency", "concurrency", "3"),
        ("lease", "lease", "'9s'"),
        ("poll_interval", "poll_interval", "'9s'"),
        ("shutdown_timeout", "shutdown_timeout", "'9s'"),
        ("cancel_grace", "cancel_grace", "'9s'"),
        ("max_result", "max_result", "9"),
        ("max_abandoned", "max_abandoned", "9"),
        ("unknown_event_grace", "unknown_event_grace", "'9s'"),
        ("on_decode_error", "on_decode_error", "'archive'"),
        ("keep_archived", "archived_max", "9"),
        ("keep_archived", "archived_for", "'9s'"),
        ("log_failures", "log_failures", "false"),
        // Applied before a server is built.
        ("", "addr", "'memory:x'"),
    ];

    /// The setters that take code.
    const CODE: [&str; 13] = [
        "process",
        "process_for",
        "process_blocking",
        "registered",
        "subscribe",
        "aggregate",
        "layer",
        "hook",
        "state",
        "is_failure",
        "on_error",
        "health_check",
        // That of the program, known when it is compiled.
        "version",
    ];

    #[test]
    fn each_setter_of_a_server_has_a_setting_or_takes_code() {
        let source = include_str!("../server/builder.rs");
        // Setters take `mut self`, methods that start the server `self`, except for a few setters that call others.
        let functions = source.split("\n    pub fn ").skip(1);
        let functions = functions.filter(|text| {
            let (signature, _) = text.split_once('{').expect("a body");
            signature.contains("-> Self") && signature.contains("self")
        });
        let name = |text: &'static str| text.split(['(', '<']).next().expect("a name");
        let setters: BTreeSet<_> = functions.map(name).collect();
        let data = DATA.iter().map(|(setter, ..)| *setter);
        let data: BTreeSet<_> = data.filter(|setter| !setter.is_empty()).collect();
        let missing: Vec<_> = data.difference(&setters).collect();
        assert!(missing.is_empty(), "{missing:?} are not setters");
        let known = data.into_iter().chain(CODE).collect();
        let new: Vec<_> = setters.difference(&known).collect();
        assert!(
            new.is_empty(),
            "{new:?}: add a key to `Config`, or add it to `CODE`"
        );
    }

    #[test]
    fn each_setter_of_a_scheduler_has_a_setting_or_takes_code() {
        let source = include_str!("../scheduler/mod.rs");
        let setters = source.split("\n    pub fn ").skip(1);
        let setters = setters.filter(|text| text.contains("mut self") && text.contains("-> Self"));
        let setters = setters.map(|text| text.split('(').next().expect("a name"));
        let setters: BTreeSet<_> = setters.filter(|name| *name != "builder").collect();
        assert_eq!(
            setters,
            ["after", "before", "entry", "file", "owner"].into(),
            "add a key to `Scheduling`, or add it here"
        );
    }

    #[test]
    fn each_setting_belongs_to_a_server_or_a_section() {
        let keys: BTreeSet<_> = fields_of::<Config>().iter().copied().collect();
        let known = DATA.iter().map(|(_, key, _)| *key).chain(SECTIONS);
        assert_eq!(keys, known.collect());
    }

    #[test]
    fn each_setting_reaches_the_server() {
        let server = |toml: &str| {
            let config = Config::from_toml(toml).expect(toml);
            let builder = Server::builder(MemoryBroker::new()).config(&config);
            let max_result = builder.state.get::<MaxResult>().map(|max| max.0).ok();
            let on_decode_error = builder.state.get::<OnDecodeError>().copied().ok();
            format!("{builder:?} {max_result:?} {on_decode_error:?}")
        };
        let without = server("addr = 'memory:'");
        for (setter, key, value) in DATA {
            if !setter.is_empty() {
                let with = server(&format!("addr = 'memory:'\n{key} = {value}"));
                assert_ne!(with, without, "`{key}` changes nothing");
            }
        }
    }
}
