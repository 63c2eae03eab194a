//! The slot of a command's keys, and the node that serves it.

use std::collections::HashMap;

use redis::{Arg, Cmd, RedisError, RedisResult, Value};

const SLOTS: u16 = 16_384;

/// A node: its host and port.
pub(super) type Address = (String, u16);

/// The node of each slot, as far as known.
#[derive(Clone, Debug, Default)]
pub(super) struct SlotMap {
    /// First and last slot of each range.
    ranges: Vec<(u16, u16, Address)>,
    /// Slots that were found on another node since.
    moved: HashMap<u16, Address>,
}

impl SlotMap {
    /// Parses a `CLUSTER SLOTS` response of a node on this host.
    pub(super) fn read(answer: Value, host: &str) -> RedisResult<Self> {
        let mut map = Self::default();
        for range in array(answer)? {
            let mut parts = array(range)?.into_iter();
            let (first, last) = (slot(parts.next())?, slot(parts.next())?);
            let mut master = array(parts.next().unwrap_or(Value::Nil))?.into_iter();
            // A node without a host name is at the address that responded.
            let name = match master.next() {
                Some(Value::BulkString(name)) => String::from_utf8_lossy(&name).into_owned(),
                Some(Value::SimpleString(name)) => name,
                _ => String::new(),
            };
            let name = if name.is_empty() || name == "?" {
                host.to_owned()
            } else {
                name
            };
            map.ranges.push((first, last, (name, slot(master.next())?)));
        }
        Ok(map)
    }

    /// The node that serves a slot.
    pub(super) fn node_of(&self, slot: u16) -> Option<&Address> {
        let in_range = || {
            let mut ranges = self.ranges.iter();
            let found = ranges.find(|(first, last, _)| (*first..=*last).contains(&slot));
            found.map(|(_, _, node)| node)
        };
        self.moved.get(&slot).or_else(in_range)
    }

    /// Notes that this node serves a slot.
    pub(super) fn note_moved(&mut self, slot: u16, node: Address) {
        self.moved.insert(slot, node);
    }

    /// The nodes that serve slots.
    pub(super) fn nodes(&self) -> Vec<Address> {
        let ranges = self.ranges.iter().map(|(_, _, node)| node);
        let mut nodes: Vec<_> = ranges.chain(self.moved.values()).cloned().collect();
        nodes.sort();
        nodes.dedup();
        nodes
    }
}

fn array(value: Value) -> RedisResult<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(unexpected(&other)),
    }
}

/// A slot, or a port.
fn slot(value: Option<Value>) -> RedisResult<u16> {
    match value {
        Some(Value::Int(number)) => {
            u16::try_from(number).map_err(|_| unexpected(&Value::Int(number)))
        }
        other => Err(unexpected(&other.unwrap_or(Value::Nil))),
    }
}

fn unexpected(value: &Value) -> RedisError {
    let text = format!("{value:?}");
    RedisError::from((
        redis::ErrorKind::UnexpectedReturnType,
        "unexpected response to `CLUSTER SLOTS`",
        text,
    ))
}

/// The slot of a command's keys, which are all in the same one. `None` for a command without keys.
pub(super) fn slot_of(command: &Cmd) -> Option<u16> {
    let mut args = command.args_iter().map(|arg| match arg {
        Arg::Simple(bytes) => bytes,
        _ => &[],
    });
    let name = args.next()?;
    let key = match name {
        // After the script and the number of keys come the keys.
        b"EVALSHA" | b"EVAL" => {
            let keys = args.nth(1)?;
            if keys == b"0" {
                return None;
            }
            args.next()?
        }
        b"PING" | b"TIME" | b"INFO" | b"CLUSTER" | b"CONFIG" => return None,
        _ => args.next()?,
    };
    Some(slot_of_key(key))
}

/// The slot of a key: the hash of the text in its first braces, or of the complete key.
fn slot_of_key(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then_some(&rest[..close])
    };
    crc16(tag().unwrap_or(key)) % SLOTS
}

/// CRC16/XMODEM, the hash of keys in Redis.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let shifted = crc << 1;
            if crc & 0x8000 == 0 {
                shifted
            } else {
                shifted ^ 0x1021
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_slot_that_redis_reports() {
        // As `CLUSTER KEYSLOT` reports.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of_key(b"foo"), 12_182);
        assert_eq!(slot_of_key(b"aq:{foo}:tasks"), 12_182);
        assert_eq!(slot_of_key(b"{}foo"), crc16(b"{}foo") % SLOTS);
    }

    #[test]
    fn a_command_is_for_the_slot_of_its_first_key() {
        let mut script = redis::cmd("EVALSHA");
        script
            .arg("hash")
            .arg(2)
            .arg("aq:{foo}:a")
            .arg("aq:{foo}:b");
        assert_eq!(slot_of(&script), Some(12_182));
        let mut plain = redis::cmd("HGET");
        plain.arg("foo").arg("field");
        assert_eq!(slot_of(&plain), Some(12_182));
        assert_eq!(slot_of(redis::cmd("PING").arg("foo")), None);
        let mut none = redis::cmd("EVAL");
        none.arg("return 1").arg(0).arg("foo");
        assert_eq!(slot_of(&none), None);
    }

    #[test]
    fn a_moved_slot_is_looked_up_on_its_new_node() {
        let node = |port| {
            let name = Value::BulkString(Vec::new());
            Value::Array(vec![name, Value::Int(port), Value::Nil])
        };
        let range =
            |first, last, port| Value::Array(vec![Value::Int(first), Value::Int(last), node(port)]);
        let answer = Value::Array(vec![range(0, 99, 1), range(200, 300, 2)]);
        let mut map = SlotMap::read(answer, "host").expect("readable");
        let at = |port| Some(("host".to_owned(), port));
        assert_eq!(map.node_of(99).cloned(), at(1));
        assert_eq!(map.node_of(100), None);
        map.note_moved(99, ("other".into(), 3));
        assert_eq!(map.node_of(99), Some(&("other".to_owned(), 3)));
        assert_eq!(map.nodes().len(), 3);
        assert!(SlotMap::read(Value::Okay, "host").is_err());
    }
}
