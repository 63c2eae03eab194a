//! Lua scripts: each changes one queue in one step, and touches no key but those that it is given.

use std::sync::LazyLock;

use asynqueue_core::{BrokerError, Durability};
use redis::{Arg, Cmd, ToRedisArgs, Value};

use crate::{
    link::{Link, SendError},
    meter,
};

/// A script and its hash.
pub(crate) struct Script {
    name: &'static str,
    code: String,
    hash: String,
    /// Whether its first argument is the [clock](crate::link::Link::not_after).
    has_clock: bool,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $($file:literal)+;)*) => {
        $($(#[$doc])* pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(stringify!($name), concat!($(include_str!(concat!("scripts/", $file, ".lua")), "\n"),+)));)*
    };
}

scripts! {
    ENQUEUE = "clock" "lane" "whole" "waiting" "groups" "index" "places" "enqueue";
    LEASE = "clock" "lane" "whole" "index" "lease";
    LEASED = "clock" "lane" "waiting" "index" "read" "leased";
    EXTEND = "clock" "extend";
    SETTLE = "clock" "lane" "whole" "waiting" "index" "settle";
    FORWARD = "clock" "waiting" "forward";
    EXPIRED = "clock" "read" "expired";
    TRIM = "clock" "trim";
    LOOK = "read" "index" "places" "look";
    EDIT = "clock" "lane" "waiting" "groups" "index" "places" "edit";
    DUE_GROUPS = "clock" "groups" "due_groups";
    LOOK_GROUPS = "clock" "groups" "look_groups";
    AGGREGATE = "clock" "lane" "waiting" "groups" "aggregate";
    SET_APART = "clock" "lane" "groups" "set_apart";
    POSTPONE = "clock" "postpone";
    DELETE_QUEUE = "clock" "delete_queue";
    MEMORY = "memory";
    STATS = "clock" "gone" "stats";
    LIST = "list";
    LIST_GROUPED = "list_grouped";
    LIST_PENDING = "clock" "gone" "list_pending";
    WAIT = "clock" "wait";
    REPORT = "clock" "report";
    PAUSE = "clock" "lane" "waiting" "pause";
    WAKE = "clock" "waiting" "wake";
    UNLOCK = "clock" "unlock";
    SWAP_SCHEDULES = "clock" "lane" "lanes_beside" "swap_schedules";
    REMOVE_SCHEDULE = "clock" "lane" "lanes_beside" "remove_schedule";
    RESTORE_SCHEDULES = "clock" "restore_schedules";
    DUE_SCHEDULES = "clock" "due_schedules";
    TICK = "clock" "lane" "lanes_beside" "tick";
    SWAP = "clock" "lane" "lanes_beside" "swap";
    SWAP_FIELDS = "clock" "lane" "lanes_beside" "swap_fields";
    SWAP_DOCUMENTS = "clock" "lane" "lanes_beside" "swap_documents";
    DUE_DOCUMENTS = "clock" "due_documents";
    CHECK = "check";
    MISSING = "missing";
    MISSING_PENDING = "missing_pending";
    MISSING_GROUPED = "clock" "groups" "missing_grouped";
    ORPHANS = "clock" "index" "places" "orphans";
    ENDED_LOCKS = "clock" "ended_locks";
    NOTE_LOCKS = "clock" "note_locks";
    FORGET_ENDS = "clock" "forget_ends";
    LOST_LOCKS = "clock" "lost_locks";
    WITHOUT_TASK = "clock" "without_task";
    FORGET = "forget";
    BEAT = "clock" "beat";
    KEEP = "clock" "waiting" "keep";
    RELEASE = "clock" "release";
    ALIVE = "clock" "alive";
    NAME = "clock" "name";
    REMOVE = "clock" "remove";
    FIELDS = "fields";
    OLDER_WORKERS = "older_workers";
}

impl Script {
    fn new(name: &'static str, code: &str) -> Self {
        Self {
            name,
            code: code.to_owned(),
            has_clock: code.contains("local function clock("),
            hash: redis::Script::new(code).get_hash().to_owned(),
        }
    }

    /// Begins a call.
    pub(crate) fn call(&self, keys: &[&str]) -> Call<'_> {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys.len()).arg(keys);
        Call {
            script: self,
            command,
            clock: 3 + keys.len(),
        }
    }
}

/// One call of a script, on its way.
pub(crate) struct Call<'a> {
    script: &'a Script,
    command: Cmd,
    /// Where the first argument after the keys is, which says by when the call has to arrive.
    clock: usize,
}

impl Call<'_> {
    pub(crate) fn arg(&mut self, arg: impl ToRedisArgs) -> &mut Self {
        self.command.arg(arg);
        self
    }

    /// Sends it; the script along with it where the server does not know it: one that is new, or had its scripts
    /// flushed.
    pub(crate) async fn send(&self, link: &Link) -> Result<Value, BrokerError> {
        self.send_durably(link, Durability::Primary).await
    }

    /// As [`send`](Self::send), and waits until what it changes is this durable.
    pub(crate) async fn send_durably(
        &self,
        link: &Link,
        durability: Durability,
    ) -> Result<Value, BrokerError> {
        let answer = self.send_known_or_whole(link, durability).await;
        if let Err(BrokerError::Protocol(_) | BrokerError::Full(_)) = &answer {
            meter::script_failed(self.script.name);
        }
        answer
    }

    async fn send_known_or_whole(
        &self,
        link: &Link,
        durability: Durability,
    ) -> Result<Value, BrokerError> {
        match self.send_once(link, &self.command, durability).await {
            Err(SendError::NoScript) => {}
            Err(SendError::Denied(denied)) => {
                return Err(link.explain(denied, Some(&self.script.code)));
            }
            Err(SendError::Broker(error)) => return Err(error),
            Ok(value) => return Ok(value),
        }
        let mut whole = redis::cmd("EVAL");
        whole.arg(&self.script.code);
        for arg in self.command.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                whole.arg(arg);
            }
        }
        match self.send_once(link, &whole, durability).await {
            Ok(value) => Ok(value),
            Err(SendError::Broker(error)) => Err(error),
            Err(SendError::Denied(denied)) => Err(link.explain(denied, Some(&self.script.code))),
            Err(SendError::NoScript) => Err(BrokerError::Protocol(
                "Redis says that it does not know a script which it was sent".into(),
            )),
        }
    }

    async fn send_once(
        &self,
        link: &Link,
        command: &Cmd,
        durability: Durability,
    ) -> Result<Value, SendError> {
        let bound = if self.script.has_clock {
            self.clock
        } else {
            usize::MAX
        };
        link.send_call(command, bound, durability).await
    }
}
