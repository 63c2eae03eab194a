//! The arguments of `#[task(…)]`.

use syn::{Data, DeriveInput, Error, LitStr, Path, Result, Type, parse_quote};

use super::{aggregate::Aggregate, backoff::Backoff, names, unique::Unique};
use crate::{
    attribute::{Key, KeyList},
    mistakes::Mistakes,
    value::Value,
};

/// The keys of `#[task(…)]` with their values.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) event: Option<LitStr>,
    pub(super) queue: Option<LitStr>,
    pub(super) max_retry: Option<u32>,
    /// In milliseconds, like all durations.
    pub(super) timeout: Option<u64>,
    pub(super) deadline: Option<u64>,
    pub(super) retention: Option<u64>,
    pub(super) backoff: Option<Backoff>,
    pub(super) unique: Option<Unique>,
    pub(super) priority: Option<u8>,
    pub(super) group: Option<LitStr>,
    pub(super) aggregate: Option<Aggregate>,
    pub(super) codec: Option<Type>,
    pub(super) output: Option<Type>,
    pub(super) process: Option<Type>,
    /// The path of the facade. `None` if the given path is invalid.
    pub(super) krate: Option<Path>,
}

const fn key(name: &'static str, example: &'static str) -> Key {
    Key { name, example }
}

static KEYS: [Key; 15] = [
    key("event", "event = \"email:welcome\""),
    key("queue", "queue = \"critical\""),
    key("max_retry", "max_retry = 5"),
    key("timeout", "timeout = \"30s\""),
    key("deadline", "deadline = \"1h\""),
    key("retention", "retention = \"24h\""),
    key("backoff", "backoff = exponential(\"1s\", \"1h\")"),
    key("unique", "unique(ttl = \"1h\")"),
    key("priority", "priority = 7"),
    key("group", "group = \"tenant-a\""),
    key("aggregate", "aggregate(grace = \"10s\")"),
    key("codec", "codec = Json"),
    key("output", "output = Receipt"),
    key("process", "process = SendWelcome"),
    key("crate", "crate = asynqueue"),
];

/// The highest priority within a queue, the same as in the framework.
const MAX_PRIORITY: u8 = 9;

const NO_EVENT: &str = "the event is missing: add `#[task(event = \"…\")]`; \
    it is not derived from the struct's name, so that renaming the struct does not orphan waiting tasks";
const NO_TIMEOUT: &str = "a timeout of 0 would end each attempt as it starts: \
                          remove it for the default of 30 minutes";
const NO_DEADLINE: &str =
    "a deadline of 0 would pass before any task starts: remove it for no deadline";

impl Arguments {
    pub(super) fn read(input: &DeriveInput, mistakes: &mut Mistakes) -> Self {
        let mut arguments = Self::default();
        let mut keys = KeyList::new("`#[task]`", &KEYS);
        keys.read_attributes(&input.attrs, "task", mistakes, |value, mistakes| {
            arguments.set(value, &input.data, mistakes)
        });
        if !keys.has("event") {
            mistakes.add(Error::new(input.ident.span(), NO_EVENT));
        }
        if !keys.has("crate") {
            arguments.krate = Some(parse_quote!(::asynqueue));
        }
        arguments
    }

    fn set(&mut self, value: &Value<'_>, data: &Data, mistakes: &mut Mistakes) -> Result<()> {
        match value.key.name {
            "event" => self.event = Some(value.checked_text(names::check_event)?),
            "queue" => self.queue = Some(value.checked_text(names::check_queue)?),
            "max_retry" => self.max_retry = Some(value.number(u32::MAX)?),
            "timeout" => self.timeout = Some(value.millis_above_zero(NO_TIMEOUT)?),
            "deadline" => self.deadline = Some(value.millis_above_zero(NO_DEADLINE)?),
            "retention" => self.retention = Some(value.millis()?),
            "backoff" => self.backoff = Some(Backoff::read(value)?),
            "unique" => self.unique = Unique::read(value, data, mistakes)?,
            "priority" => self.priority = Some(value.number(MAX_PRIORITY)?),
            "group" => self.group = Some(value.checked_text(names::check_group)?),
            "aggregate" => self.aggregate = Some(Aggregate::read(value, mistakes)?),
            "codec" => self.codec = Some(value.ty()?),
            "output" => self.output = Some(value.ty()?),
            "process" => self.process = Some(value.ty()?),
            _ => self.krate = Some(value.path()?),
        }
        Ok(())
    }
}
