//! Lua scripts. Each changes one queue in one step, and uses only the keys that it receives.

#[macro_use]
mod entry;
#[cfg(test)]
mod names;
mod source;
mod table;

use std::marker::PhantomData;

use asynqueue_core::broker::{BrokerError, Durability};
use redis::{Arg, Cmd, ToRedisArgs, Value};

use self::source::Source;
use crate::{
    link::{Link, SendError},
    meter,
};

pub(crate) use self::table::*;

/// A script and its hash.
pub(crate) struct Script {
    name: String,
    code: String,
    hash: String,
    /// Whether its first argument is the [deadline](crate::link::Link::not_after).
    has_clock: bool,
}

impl Script {
    fn new(source: &Source) -> Self {
        let code = source.text();
        Self {
            name: source.name.to_uppercase(),
            has_clock: source.args.first() == Some(&"not_after"),
            hash: redis::Script::new(&code).get_hash().to_owned(),
            code,
        }
    }
}

/// One call of the script `S`.
pub(crate) struct Call<S> {
    script: &'static Script,
    command: Cmd,
    /// The index of the first argument after the keys, which is the deadline of the call.
    clock: usize,
    of: PhantomData<S>,
}

/// Repeatable arguments of the script `S`.
pub(crate) trait Row<S> {
    fn write(self, command: &mut Cmd);
}

/// Adds one argument. A value that serialises to several arguments, or none, would shift the following ones.
fn push(command: &mut Cmd, arg: impl ToRedisArgs) {
    debug_assert_eq!(arg.num_of_args(), 1, "one argument");
    command.arg(arg);
}

impl<S> Call<S> {
    fn begin(script: &'static Script, keys: usize) -> Self {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.hash).arg(keys);
        Self {
            script,
            command,
            clock: 3 + keys,
            of: PhantomData,
        }
    }

    /// Adds a row after the previous ones.
    pub(crate) fn row(&mut self, row: impl Row<S>) -> &mut Self {
        row.write(&mut self.command);
        self
    }

    /// Sends the call, with the script's code if the server does not know it: it is new, or its scripts were flushed.
    pub(crate) async fn send(&self, link: &Link) -> Result<Value, BrokerError> {
        self.send_durably(link, Durability::Primary).await
    }

    /// Like [`send`](Self::send), and waits until the change is this durable.
    pub(crate) async fn send_durably(
        &self,
        link: &Link,
        durability: Durability,
    ) -> Result<Value, BrokerError> {
        let answer = self.send_with_fallback(link, durability).await;
        if let Err(BrokerError::Protocol(_) | BrokerError::Full(_)) = &answer {
            meter::script_failed(&self.script.name);
        }
        answer
    }

    async fn send_with_fallback(
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
        let mut with_code = redis::cmd("EVAL");
        with_code.arg(&self.script.code);
        for arg in self.command.args_iter().skip(2) {
            if let Arg::Simple(arg) = arg {
                with_code.arg(arg);
            }
        }
        match self.send_once(link, &with_code, durability).await {
            Ok(value) => Ok(value),
            Err(SendError::Broker(error)) => Err(error),
            Err(SendError::Denied(denied)) => Err(link.explain(denied, Some(&self.script.code))),
            Err(SendError::NoScript) => Err(BrokerError::protocol(
                "Redis reported a script as unknown that was sent with the call",
            )),
        }
    }

    async fn send_once(
        &self,
        link: &Link,
        command: &Cmd,
        durability: Durability,
    ) -> Result<Value, SendError> {
        let deadline = if self.script.has_clock {
            self.clock
        } else {
            usize::MAX
        };
        link.send_call(command, deadline, durability).await
    }
}
