//! Records every command of a server, and whether scripts use only the keys that they declare.

use futures_util::StreamExt;
use redis::cmd;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::RedisServer;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether a script ran it.
    pub by_script: bool,
    /// Its arguments.
    pub words: Vec<Vec<u8>>,
}

/// Records the commands of a server.
#[derive(Debug)]
pub struct Monitor {
    reading: JoinHandle<Vec<Seen>>,
    marker: String,
    server: redis::Client,
}

impl Monitor {
    /// Starts to record.
    pub async fn start(server: &RedisServer) -> Self {
        let client = redis::Client::open(server.url()).unwrap();
        let monitor = client.get_async_monitor().await.unwrap();
        let marker = format!("end-of-{}", server.port());
        let (end, (started, starts)) = (marker.clone(), oneshot::channel());
        let reading = tokio::spawn(async move {
            started.send(()).unwrap();
            let mut lines = monitor.into_on_message::<String>();
            let mut seen = Vec::new();
            // Everything before it belongs to opening that connection.
            let first = loop {
                let line = lines.next().await.unwrap();
                if line.contains("a quote") {
                    break line;
                }
            };
            let quotes = Quotes::of(&first);
            while let Some(line) = lines.next().await {
                let command = parse(&line, quotes);
                if command
                    .words
                    .get(1)
                    .is_some_and(|word| *word == end.as_bytes())
                {
                    break;
                }
                seen.push(command);
            }
            seen
        });
        starts.await.unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let mut quote = cmd("ECHO");
        let _: String = quote.arg(QUOTE).query_async(&mut connection).await.unwrap();
        Self {
            reading,
            marker,
            server: client,
        }
    }

    /// Returns all commands so far.
    pub async fn stop(self) -> Vec<Seen> {
        let mut connection = self
            .server
            .get_multiplexed_async_connection()
            .await
            .unwrap();
        let _: String = cmd("ECHO")
            .arg(&self.marker)
            .query_async(&mut connection)
            .await
            .unwrap();
        self.reading.await.unwrap()
    }
}

/// Sent first, to see how the server writes a quote.
const QUOTE: &str = "a quote \"";

/// How a server writes quotes and backslashes in arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quotes {
    Escaped,
    /// Unescaped, as Valkey 8.1 does. Arguments are kept as written, which is enough to compare them.
    Plain,
}

impl Quotes {
    fn of(line: &str) -> Self {
        if line.ends_with(&format!("\"{QUOTE}\"")) {
            Self::Plain
        } else {
            Self::Escaped
        }
    }
}

/// A line such as `1339518083.107412 [0 lua] "get" "x"`.
fn parse(line: &str, quotes: Quotes) -> Seen {
    let (head, rest) = line.split_once(']').expect("a client in brackets");
    let by_script = head.ends_with(" lua");
    let words = match quotes {
        Quotes::Escaped => escaped_words(rest),
        Quotes::Plain => {
            let rest = rest.trim_start().trim_start_matches('"');
            let words = rest.strip_suffix('"').unwrap_or(rest).split("\" \"");
            words.map(|word| word.as_bytes().to_vec()).collect()
        }
    };
    Seen { by_script, words }
}

fn escaped_words(rest: &str) -> Vec<Vec<u8>> {
    let (mut words, mut bytes) = (Vec::new(), rest.bytes());
    while let Some(byte) = bytes.next() {
        if byte != b'"' {
            continue;
        }
        let mut word = Vec::new();
        loop {
            match bytes.next().expect("a closing quote") {
                b'"' => break,
                b'\\' => word.push(match bytes.next().expect("what is escaped") {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'a' => 7,
                    b'b' => 8,
                    b'x' => {
                        let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                        u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                    }
                    other => other,
                }),
                other => word.push(other),
            }
        }
        words.push(word);
    }
    words
}

/// The keys that scripts have used without declaring them, in words.
pub fn undeclared_keys(seen: &[Seen]) -> Vec<String> {
    let (mut declared, mut found): (Vec<Vec<u8>>, _) = (Vec::new(), Vec::new());
    for command in seen {
        let name = String::from_utf8_lossy(&command.words[0]).to_lowercase();
        if command.by_script {
            for key in keys(&name, &command.words) {
                if !declared.contains(key) && !is_channel_of_one(&name, key, &declared) {
                    found.push(format!("{name} {}", String::from_utf8_lossy(key)));
                }
            }
        } else if name == "eval" || name == "evalsha" {
            let count: usize = std::str::from_utf8(&command.words[2])
                .unwrap()
                .parse()
                .unwrap();
            declared = command.words[3..][..count].to_vec();
        }
    }
    found
}

/// Whether it is the channel of one listener: the name of a declared channel, a colon and more.
fn is_channel_of_one(command: &str, key: &[u8], declared: &[Vec<u8>]) -> bool {
    let is_part = |channel: &Vec<u8>| {
        let rest = key.strip_prefix(&channel[..]);
        rest.is_some_and(|rest| rest.starts_with(b":"))
    };
    command.ends_with("publish") && declared.iter().any(is_part)
}

/// The keys of a command, channels among them.
fn keys<'a>(name: &str, words: &'a [Vec<u8>]) -> &'a [Vec<u8>] {
    match name {
        "time" => &[],
        "del" | "unlink" | "exists" => &words[1..],
        "get" | "set" | "pttl" | "hget" | "hset" | "hsetnx" | "hmget" | "hdel" | "hlen"
        | "hexists" | "hincrby" | "lpush" | "rpush" | "rpop" | "llen" | "lindex" | "lrange"
        | "lpos" | "zadd" | "zrem" | "zcard" | "zscore" | "zmscore" | "zrange" | "zrevrange"
        | "zrank" | "zrevrank" | "zcount" | "zremrangebyscore" | "pexpire" | "zlexcount"
        | "zpopmin" | "hkeys" | "ltrim" | "lrem" | "publish" | "spublish" | "hstrlen"
        | "hrandfield" | "hscan" | "sadd" | "srem" => &words[1..2],
        "memory" => &words[2..3],
        other => panic!("`{other}` is missing in this table: add it with the position of its keys"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_parsed_in_each_server_format() {
        let escaped = r#"1.0 [0 127.0.0.1:1] "ECHO" "a quote \"""#;
        let plain = r#"1.0 [0 127.0.0.1:1] "ECHO" "a quote """#;
        for (line, quotes) in [(escaped, Quotes::Escaped), (plain, Quotes::Plain)] {
            assert_eq!(Quotes::of(line), quotes);
            let words = parse(line, quotes).words;
            assert_eq!(words, [b"ECHO".to_vec(), QUOTE.as_bytes().to_vec()]);
        }
        let ends_with_a_backslash = parse(r#"1.0 [0 lua] "GET" "a\" "b""#, Quotes::Plain);
        assert_eq!(ends_with_a_backslash.words[1], br"a\");
    }

    #[tokio::test]
    async fn a_key_that_a_script_constructs_is_found() {
        let server = RedisServer::start().await;
        let mut connection = server.connection().await;
        let monitor = Monitor::start(&server).await;
        let mut run = async |code: &str| {
            let mut command = cmd("EVAL");
            command.arg(code).arg(1).arg("a\"\\\n{q}").arg("x");
            let _: () = command.query_async(&mut connection).await.unwrap();
        };
        run("redis.call('TIME')").await;
        run("redis.call('HSET', KEYS[1], 1, 1)").await;
        run("redis.call('HGET', KEYS[1] .. ARGV[1], 1)").await;
        let mut seen = monitor.stop().await;
        assert_eq!(undeclared_keys(&seen), ["hget a\"\\\n{q}x"], "{seen:?}");
        seen.retain(|command| command.words[0] == b"HSET");
        assert_eq!(seen[0].words[1], b"a\"\\\n{q}");
    }
}
