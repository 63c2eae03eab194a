//! Parses URLs.
//!
//! No URL library accepts the several hosts of Sentinels and Clusters. Parsing here also ensures that no error shows
//! what may be a password.

use std::time::Duration;

use asynqueue_core::{broker::Durability, duration::parse_millis};
use percent_encoding::percent_decode_str;

use super::{Login, OptionsError, RedisOptions, Topology, tls::TlsFiles};

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// All parameters.
const PARAMETERS: [&str; 14] = [
    "prefix",
    "pool_size",
    "connect_timeout",
    "response_timeout",
    "retry_for",
    "durability",
    "answer_bytes",
    "ca",
    "cert",
    "key",
    "insecure_skip_verify",
    "master",
    "sentinel_user",
    "sentinel_password",
];

pub(super) fn read(url: &str) -> Result<RedisOptions, OptionsError> {
    parse(url).map_err(|error| {
        let (place, query) = url.split_once('?').unwrap_or((url, ""));
        // A `?` in a password ends the place too early. The other errors would show a part of the password.
        let is_split = query.contains('@') && !place.contains('@');
        match error {
            OptionsError::NoScheme | OptionsError::Scheme(_) => error,
            _ if is_split => OptionsError::Encoding,
            _ => error,
        }
    })
}

fn parse(url: &str) -> Result<RedisOptions, OptionsError> {
    let (scheme, rest) = url.split_once("://").ok_or(OptionsError::NoScheme)?;
    let (transport, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
    // More than a scheme, such as a password.
    if scheme.contains(['@', ':']) {
        return Err(OptionsError::NoScheme);
    }
    if !matches!(transport, "redis" | "rediss") || !matches!(kind, "" | "sentinel" | "cluster") {
        return Err(OptionsError::Scheme(scheme.to_owned()));
    }
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    // The last `@`, because a password may contain one that is not encoded.
    let (login, place) = place
        .rsplit_once('@')
        .map_or((None, place), |(login, place)| (Some(login), place));
    let (hosts, db) = place.split_once('/').unwrap_or((place, ""));
    let port = if kind == "sentinel" {
        SENTINEL_PORT
    } else {
        PORT
    };
    let nodes = hosts.split(',').map(|node| read_node(node, port, scheme));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    if kind.is_empty() && nodes.len() > 1 {
        return Err(OptionsError::ManyHosts(scheme.to_owned(), nodes.len()));
    }
    let db = match db {
        "" => 0,
        db => (db.parse().ok())
            .filter(|db| *db >= 0)
            .ok_or_else(|| OptionsError::Database(db.to_owned()))?,
    };
    let mut parameters = Parameters::default();
    let mut options = RedisOptions {
        topology: Topology::Single,
        nodes,
        tls: None,
        login: login.map_or(Ok(Login::default()), read_login)?,
        db,
        prefix: "aq".to_owned(),
        pool_size: 2,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(2),
        retry_for: Duration::from_secs(5),
        durability: Durability::Primary,
        answer_bytes: 4 << 20,
        pool: None,
        clock: None,
    };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        options = parameters.take(options, name, &decode(value)?)?;
    }
    parameters.finish(options, scheme, kind)
}

fn read_node(node: &str, default: u16, scheme: &str) -> Result<(String, u16), OptionsError> {
    let invalid = || OptionsError::Host(node.to_owned());
    let (host, port) = match node.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or_else(invalid)?;
            (
                host,
                port.strip_prefix(':')
                    .or(port.is_empty().then_some(""))
                    .ok_or_else(invalid)?,
            )
        }
        None => node.split_once(':').unwrap_or((node, "")),
    };
    if host.is_empty() {
        return Err(OptionsError::NoHost(scheme.to_owned()));
    }
    if port.starts_with(':') {
        // An IPv6 address without brackets.
        return Err(invalid());
    }
    let port = match port {
        "" => default,
        // Not shown, because it is the password in a URL without a host: `redis://user:password`.
        port => port
            .parse()
            .map_err(|_| OptionsError::Host(format!("{host}:…")))?,
    };
    Ok((host.to_owned(), port))
}

fn read_login(login: &str) -> Result<Login, OptionsError> {
    let (user, password) = login
        .split_once(':')
        .map_or((login, None), |(user, word)| (user, Some(word)));
    Ok(Login {
        user: (!user.is_empty()).then(|| decode(user)).transpose()?,
        password: password.map(decode).transpose()?,
    })
}

fn decode(text: &str) -> Result<String, OptionsError> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(String::from)
        .map_err(|_| OptionsError::Encoding)
}

/// Parameters that are validated together.
#[derive(Default)]
struct Parameters {
    tls: TlsFiles,
    master: Option<String>,
    sentinel: Login,
}

impl Parameters {
    fn take(
        &mut self,
        options: RedisOptions,
        name: &str,
        value: &str,
    ) -> Result<RedisOptions, OptionsError> {
        let invalid = |expected: &str| OptionsError::Value {
            name: name.to_owned(),
            value: value.to_owned(),
            expected: expected.to_owned(),
        };
        let time = || match parse_millis(value) {
            Ok(0) => Err(invalid("expected at least 1 ms")),
            Ok(millis) => Ok(Duration::from_millis(millis)),
            Err(reason) => Err(invalid(&reason)),
        };
        Ok(match name {
            "prefix" => options.prefix(value)?,
            "pool_size" => match value.parse() {
                Ok(size @ 1..=1_000) => options.pool_size(size),
                _ => return Err(invalid("expected a number from 1 to 1000")),
            },
            "connect_timeout" => options.connect_timeout(time()?),
            "response_timeout" => options.response_timeout(time()?),
            "retry_for" => options.retry_for(time()?),
            "durability" => match value.parse() {
                Ok(durability) => options.durability(durability),
                Err(_) => return Err(invalid("expected `primary`, `replicas=1` or `fsync`")),
            },
            "answer_bytes" => match value.parse() {
                Ok(bytes @ 1..) => options.answer_bytes(bytes),
                _ => return Err(invalid("expected a number of bytes, at least 1")),
            },
            _ => {
                match name {
                    "ca" => self.tls.ca = Some(value.into()),
                    "cert" => self.tls.cert = Some(value.into()),
                    "key" => self.tls.key = Some(value.into()),
                    "insecure_skip_verify" => {
                        self.tls.is_insecure = value
                            .parse()
                            .map_err(|_| invalid("expected `true` or `false`"))?;
                    }
                    "master" => self.master = Some(value.to_owned()),
                    "sentinel_user" => self.sentinel.user = Some(value.to_owned()),
                    "sentinel_password" => self.sentinel.password = Some(value.to_owned()),
                    _ => return Err(unknown(name)),
                }
                options
            }
        })
    }

    fn finish(
        self,
        mut options: RedisOptions,
        scheme: &str,
        kind: &str,
    ) -> Result<RedisOptions, OptionsError> {
        let is_tls = scheme.starts_with("rediss");
        match self.tls.given() {
            Some(name) if !is_tls => {
                let scheme = "rediss://";
                return Err(OptionsError::Misplaced {
                    name: name.to_owned(),
                    scheme,
                });
            }
            _ => options.tls = is_tls.then(|| self.tls.read(scheme)).transpose()?,
        }
        let sentinel = [
            (self.master.is_some(), "master"),
            (self.sentinel.user.is_some(), "sentinel_user"),
            (self.sentinel.password.is_some(), "sentinel_password"),
        ];
        match (kind, sentinel.into_iter().find(|(given, _)| *given)) {
            ("sentinel", _) => {
                let master = self.master.filter(|master| !master.is_empty());
                let master = master.ok_or(OptionsError::NoMaster)?;
                options.topology = Topology::Sentinel {
                    master,
                    login: self.sentinel,
                };
            }
            (_, Some((_, name))) => {
                let scheme = "redis+sentinel://";
                return Err(OptionsError::Misplaced {
                    name: name.to_owned(),
                    scheme,
                });
            }
            ("cluster", None) if options.db != 0 => {
                return Err(OptionsError::ClusterDatabase(options.db));
            }
            ("cluster", None) => options.topology = Topology::Cluster,
            _ => {}
        }
        Ok(options)
    }
}

fn unknown(name: &str) -> OptionsError {
    let is_similar =
        |known: &&&str| name.len() >= 2 && (known.starts_with(name) || name.starts_with(**known));
    let hint = match PARAMETERS.iter().find(is_similar) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("expected one of {}", PARAMETERS.join(", ")),
    };
    OptionsError::Parameter {
        name: name.to_owned(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str) -> String {
        read(url).expect_err(url).to_string()
    }

    #[test]
    fn a_url_names_the_servers_of_redis() {
        for (url, nodes, db) in [
            ("redis://localhost", vec![("localhost", 6379)], 0),
            (
                "redis://user:pass@10.0.0.1:7000/3",
                vec![("10.0.0.1", 7000)],
                3,
            ),
            ("redis://[::1]:7000", vec![("::1", 7000)], 0),
            ("redis://[::1]", vec![("::1", 6379)], 0),
            ("rediss://host/", vec![("host", 6379)], 0),
            (
                "redis+cluster://a:1,b,c:3",
                vec![("a", 1), ("b", 6379), ("c", 3)],
                0,
            ),
            (
                "redis+sentinel://a,b:5/2?master=m",
                vec![("a", 26379), ("b", 5)],
                2,
            ),
        ] {
            let options = read(url).expect(url);
            let found: Vec<_> = options
                .nodes
                .iter()
                .map(|(host, port)| (host.as_str(), *port))
                .collect();
            assert_eq!((found, options.db), (nodes, db), "{url}");
        }
    }

    #[test]
    fn user_and_password_are_decoded_and_never_shown() {
        for (url, user, password) in [
            ("redis://ada:l%40ve%25@host", Some("ada"), Some("l@ve%")),
            ("redis://:secret@host", None, Some("secret")),
            ("redis://ada:se:cr@et@host", Some("ada"), Some("se:cr@et")),
        ] {
            let options = read(url).expect(url);
            let login = (
                options.login.user.as_deref(),
                options.login.password.as_deref(),
            );
            assert_eq!(login, (user, password));
            let shown = format!("{options:?} {}", options.address());
            assert!(
                !shown.contains("ada") && !shown.contains("et")
                    || !shown.contains(password.unwrap_or("-")),
                "{shown}"
            );
        }
        for url in [
            "redis://ada:secret@host:port",
            "redis://ada:secret@",
            "redis://ada:secret@host/x",
            "redis://ada:secret@host?prefi=x",
            "http://ada:secret@host",
            "ada:secret@host",
            "redis://ada:secret@a,b",
            "redis://ada:%ff@host",
            "redis://bob:secret",
            "redis://bob:secret:x",
            "redis://ada:secret?x@host",
            "redis://ada:12?secret@host",
            "redis://ada:12?secret=x@host",
            "redis+cluster://ada:secret@a/3",
            "redis+sentinel://ada:secret@a?sentinel_password=secret",
        ] {
            let shown = error(url);
            assert!(
                !shown.contains("secret") && !shown.contains("ada:"),
                "{url}: {shown}"
            );
        }
    }

    #[test]
    fn parameters_are_options() {
        let options = read("redis://h?prefix=shop&pool_size=3&connect_timeout=1s&response_timeout=250ms&retry_for=1m&answer_bytes=1000000")
            .expect("a URL");
        assert_eq!((options.prefix.as_str(), options.pool_size), ("shop", 3));
        assert_eq!(options.connect_timeout, Duration::from_secs(1));
        assert_eq!(options.response_timeout, Duration::from_millis(250));
        assert_eq!(options.retry_for, Duration::from_secs(60));
        assert_eq!(options.answer_bytes, 1_000_000);
        let durability = |url| read(url).expect("a URL").durability;
        assert_eq!(durability("redis://h"), Durability::Primary);
        assert_eq!(
            durability("redis://h?durability=replicas=2"),
            Durability::Replicas(2)
        );
        assert_eq!(durability("redis://h?durability=fsync"), Durability::Fsync);
    }

    #[test]
    fn an_invalid_url_is_refused_with_what_to_write() {
        let no_host = "the Redis URL has no host: write `redis://host:port`";
        let host = "expected `host:6379`, with an IPv6 address in brackets";
        let no_master = "the Sentinel URL has no master: add `?master=name` with the master name that the Sentinels monitor";
        let scheme = "expected redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster or rediss+cluster";
        for (url, expected) in [
            ("localhost:6379", "the Redis URL has no scheme: write `redis://host:6379`".to_owned()),
            ("redis:localhost", "the Redis URL has no scheme: write `redis://host:6379`".to_owned()),
            ("ada:secret@h://", "the Redis URL has no scheme: write `redis://host:6379`".to_owned()),
            ("reddis://h", format!("unknown scheme `reddis`: {scheme}")),
            ("redis+cluter://h", format!("unknown scheme `redis+cluter`: {scheme}")),
            ("redis://", no_host.to_owned()),
            ("redis+cluster://a,,b", no_host.replace("redis:", "redis+cluster:")),
            ("redis://h:99999", format!("invalid host `h:…`: {host}")),
            ("redis://::1", no_host.to_owned()),
            ("redis://fe80::1:6379", format!("invalid host `fe80::1:6379`: {host}")),
            ("redis://[::1", format!("invalid host `[::1`: {host}")),
            (
                "redis://a,b",
                "`redis://` takes one host, found 2: write `redis+cluster://` or `redis+sentinel://`".to_owned(),
            ),
            (
                "redis://h/-3",
                "invalid database `-3`: expected a number such as `/0`, or nothing".to_owned(),
            ),
            (
                "redis://h/one",
                "invalid database `one`: expected a number such as `/0`, or nothing".to_owned(),
            ),
            (
                "redis+cluster://a/1",
                "database `/1` does not exist: a Cluster has only database 0; remove it and set a `prefix` to separate programs"
                    .to_owned(),
            ),
            ("redis+sentinel://a", no_master.to_owned()),
            ("redis+sentinel://a?master=", no_master.to_owned()),
            ("redis://h?master=m", "parameter `master` requires a `redis+sentinel://` URL".to_owned()),
            ("redis://h?ca=x.pem", "parameter `ca` requires a `rediss://` URL".to_owned()),
            (
                "redis://h?insecure_skip_verify=true",
                "parameter `insecure_skip_verify` requires a `rediss://` URL".to_owned(),
            ),
            (
                "rediss://h?insecure_skip_verify=yes",
                "parameter `insecure_skip_verify` is `yes`: expected `true` or `false`".to_owned(),
            ),
            (
                "rediss://h?ca=/no/such.pem",
                "cannot read `/no/such.pem` for parameter `ca`: No such file or directory (os error 2)".to_owned(),
            ),
            (
                "rediss://h?cert=/no/such.pem",
                "`cert` and `key` are required together: `key` is missing".to_owned(),
            ),
            (
                "rediss://h?key=/no/such.pem",
                "`cert` and `key` are required together: `cert` is missing".to_owned(),
            ),
            ("redis://h?prefi=x", "unknown parameter `prefi`: did you mean `prefix`?".to_owned()),
            (
                "redis://h?xyz=1",
                format!("unknown parameter `xyz`: expected one of {}", PARAMETERS.join(", ")),
            ),
            ("redis://h?pool_size=0", "parameter `pool_size` is `0`: expected a number from 1 to 1000".to_owned()),
            (
                "redis://h?answer_bytes=4MB",
                "parameter `answer_bytes` is `4MB`: expected a number of bytes, at least 1".to_owned(),
            ),
            (
                "redis://h?durability=disk",
                "parameter `durability` is `disk`: expected `primary`, `replicas=1` or `fsync`".to_owned(),
            ),
            (
                "redis://h?response_timeout=0s",
                "parameter `response_timeout` is `0s`: expected at least 1 ms".to_owned(),
            ),
            (
                "redis://h?prefix=a{b",
                "prefix `a{b` is invalid: expected at least one character, without braces, white space or control characters"
                    .to_owned(),
            ),
        ] {
            assert_eq!(error(url), expected, "{url}");
        }
        let unit = error("redis://h?response_timeout=2");
        assert!(
            unit.starts_with("parameter `response_timeout` is `2`: "),
            "{unit}"
        );
        assert!(unit.contains("write `2s`"), "{unit}");
    }
}
