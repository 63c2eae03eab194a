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
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $name:ident = $($file:literal)+;)*) => {
        $($(#[$doc])* pub(crate) static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(stringify!($name), concat!($(include_str!(concat!("scripts/", $file, ".lua")), "\n"),+)));)*
    };
}

scripts! {
    ENQUEUE = "clock" "lane" "waiting" "groups" "enqueue";
    LEASE = "clock" "lane" "lease";
    LEASED = "clock" "leased";
    EXTEND = "clock" "extend";
    SETTLE = "clock" "lane" "waiting" "settle";
    FORWARD = "clock" "waiting" "forward";
    EXPIRED = "clock" "expired";
    TRIM = "clock" "trim";
    LOOK = "places" "look";
    EDIT = "clock" "waiting" "groups" "places" "edit";
    DUE_GROUPS = "clock" "groups" "due_groups";
    LOOK_GROUPS = "clock" "groups" "look_groups";
    AGGREGATE = "clock" "lane" "waiting" "groups" "aggregate";
    SET_APART = "clock" "groups" "set_apart";
    POSTPONE = "clock" "postpone";
    DELETE_QUEUE = "delete_queue";
    MEMORY = "memory";
    STATS = "clock" "gone" "stats";
    LIST = "list";
    LIST_GROUPED = "list_grouped";
    LIST_PENDING = "clock" "gone" "list_pending";
    WAIT = "clock" "wait";
    REPORT = "report";
    PAUSE = "clock" "waiting" "pause";
    WAKE = "clock" "waiting" "wake";
    UNLOCK = "unlock";
    SWAP_SCHEDULES = "clock" "swap_schedules";
    REMOVE_SCHEDULE = "clock" "remove_schedule";
    RESTORE_SCHEDULES = "clock" "restore_schedules";
    DUE_SCHEDULES = "clock" "due_schedules";
    TICK = "tick";
    SWAP = "swap";
    SWAP_FIELDS = "clock" "swap_fields";
    CHECK = "check";
    MISSING = "missing";
    MISSING_PENDING = "missing_pending";
    MISSING_GROUPED = "clock" "groups" "missing_grouped";
    ORPHANS = "clock" "places" "orphans";
    ENDED_LOCKS = "clock" "ended_locks";
    NOTE_LOCKS = "clock" "note_locks";
    FORGET_ENDS = "clock" "forget_ends";
    LOST_LOCKS = "clock" "lost_locks";
    WITHOUT_TASK = "clock" "without_task";
    FORGET = "forget";
    BEAT = "beat";
    KEEP = "clock" "waiting" "keep";
    RELEASE = "clock" "release";
    ALIVE = "clock" "alive";
}

impl Script {
    fn new(name: &'static str, code: &str) -> Self {
        Self {
            name,
            code: code.to_owned(),
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
        }
    }
}

/// One call of a script, on its way.
pub(crate) struct Call<'a> {
    script: &'a Script,
    command: Cmd,
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
        match link.send_durably(&self.command, durability).await {
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
        match link.send_durably(&whole, durability).await {
            Ok(value) => Ok(value),
            Err(SendError::Broker(error)) => Err(error),
            Err(SendError::Denied(denied)) => Err(link.explain(denied, Some(&self.script.code))),
            Err(SendError::NoScript) => Err(BrokerError::Protocol(
                "Redis says that it does not know a script which it was sent".into(),
            )),
        }
    }
}
