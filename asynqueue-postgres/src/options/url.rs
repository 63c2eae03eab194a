//! Parses URLs.

use std::{path::PathBuf, time::Duration};

use asynqueue_core::duration::parse_millis;
use percent_encoding::percent_decode_str;

use super::{OptionsError, PostgresOptions, SslMode, TlsOptions, tls};

/// All parameters, for messages.
pub(super) const PARAMETERS: &str = "`schema`, `migrate`, `pool_size`, `listen`, `response_timeout`, `retry_for`, \
     `connect_timeout`, `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, or a parameter of `libpq` such as \
     `target_session_attrs` or `application_name`";

pub(super) fn read(url: &str) -> Result<PostgresOptions, OptionsError> {
    let is_ours = ["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| url.starts_with(scheme));
    if !is_ours {
        let scheme = url
            .split_once(':')
            .map_or("no scheme", |(scheme, _)| scheme);
        return Err(OptionsError::Scheme(scheme.to_owned()));
    }
    check_characters(url)?;
    read_parts(url).map_err(|error| match error {
        // What was read as a parameter may be a part of the password.
        OptionsError::Parameter(_)
            if url
                .split_once('?')
                .is_some_and(|(_, query)| query.contains('@')) =>
        {
            not_encoded("a `?` precedes an `@`")
        }
        error => error,
    })
}

/// Refuses a URL in which the password is cut: the rest of it would be read as a host, and then shown in errors.
fn check_characters(url: &str) -> Result<(), OptionsError> {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (address, query) = rest.split_once('?').unwrap_or((rest, ""));
    let at_signs = address.matches('@').count();
    let before = address.split('@').next().unwrap_or_default();
    if at_signs > 1 {
        return Err(not_encoded("it has more than one `@`"));
    }
    if at_signs == 1 && before.contains('/') {
        return Err(not_encoded("a `/` precedes the `@`"));
    }
    let names = query.split('&').filter_map(|part| part.split('=').next());
    if { names }.any(|name| name.contains(['@', '/'])) {
        return Err(not_encoded("a `?` precedes an `@`"));
    }
    Ok(())
}

fn not_encoded(problem: &str) -> OptionsError {
    OptionsError::Url(problem.to_owned())
}

fn read_parts(url: &str) -> Result<PostgresOptions, OptionsError> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match OWN.contains(&name) {
            true => own.push((name, decoded(name, value)?)),
            false => others.push(parameter),
        }
    }
    let mut options = options(address, &others)?;
    let mut files = Files::default();
    for (name, value) in own {
        set(&mut options, &mut files, name, &value)?;
    }
    files.read_into(&mut options)?;
    Ok(options)
}

/// Parses the URL of the connection that listens. The other connections have the parameters that are not about one.
pub(super) fn read_listen(url: &str) -> Result<PostgresOptions, OptionsError> {
    let (_, query) = url.split_once('?').unwrap_or_default();
    let names = query.split('&').filter_map(|part| part.split('=').next());
    let of_tls = |name: &str| name.starts_with("ssl");
    if let Some(other) = { names }.find(|name| OWN.contains(name) && !of_tls(name)) {
        return Err(OptionsError::Value {
            name: "listen".into(),
            value: format!("…?{other}=…"),
            expected: format!("expected a URL without `{other}`, which belongs into the main URL"),
        });
    }
    read(url)
}

/// The parameters that the client library does not know.
const OWN: [&str; 10] = [
    "schema",
    "migrate",
    "pool_size",
    "listen",
    "response_timeout",
    "retry_for",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
];

fn decoded(name: &str, value: &str) -> Result<String, OptionsError> {
    let decoded = percent_decode_str(value).decode_utf8();
    decoded.map(Into::into).map_err(|_| OptionsError::Value {
        name: name.into(),
        value: value.into(),
        expected: "expected percent-encoded UTF-8".into(),
    })
}

fn options(address: &str, parameters: &[&str]) -> Result<PostgresOptions, OptionsError> {
    let url = format!("{address}?{}", parameters.join("&"));
    let mut config: tokio_postgres::Config =
        url.parse().map_err(|error: tokio_postgres::Error| {
            let source = std::error::Error::source(&error);
            let text = source.map_or_else(|| error.to_string(), ToString::to_string);
            let unknown = text
                .strip_prefix("unknown option `")
                .and_then(|rest| rest.split_once('`'));
            match unknown {
                Some((name, _)) => OptionsError::Parameter(name.to_owned()),
                None => OptionsError::Url(text),
            }
        })?;
    if config.get_hosts().is_empty() {
        config.host("localhost");
    }
    if config.get_application_name().is_none() {
        config.application_name("asynqueue");
    }
    let connect_timeout = config
        .get_connect_timeout()
        .copied()
        .unwrap_or(Duration::from_secs(5));
    config.connect_timeout(connect_timeout);
    Ok(PostgresOptions {
        config,
        listen: None,
        tls: TlsOptions::default(),
        schema: "asynqueue".to_owned(),
        migrate: true,
        pool_size: 4,
        connect_timeout,
        response_timeout: Duration::from_secs(10),
        retry_for: Duration::from_secs(5),
        clock: None,
    })
}

/// The PEM files of the URL.
#[derive(Default)]
struct Files {
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Files {
    fn read_into(self, options: &mut PostgresOptions) -> Result<(), OptionsError> {
        options.tls.ca = self
            .ca
            .map(|file| tls::read("sslrootcert", file))
            .transpose()?;
        options.tls.client = match (self.cert, self.key) {
            (Some(cert), Some(key)) => {
                Some((tls::read("sslcert", cert)?, tls::read("sslkey", key)?))
            }
            (None, None) => None,
            (Some(given), None) | (None, Some(given)) => {
                return Err(OptionsError::Value {
                    name: "sslcert".into(),
                    value: given.display().to_string(),
                    expected: "expected both `sslcert` and `sslkey`".into(),
                });
            }
        };
        Ok(())
    }
}

fn set(
    options: &mut PostgresOptions,
    files: &mut Files,
    name: &str,
    value: &str,
) -> Result<(), OptionsError> {
    let invalid = |expected: &str| OptionsError::Value {
        name: name.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    };
    let duration = || {
        let millis = parse_millis(value).map_err(|problem| invalid(&problem));
        millis.map(Duration::from_millis)
    };
    match name {
        "schema" => *options = options.clone().schema(value)?,
        "migrate" => {
            options.migrate = value
                .parse()
                .map_err(|_| invalid("expected `true` or `false`"))?;
        }
        "pool_size" => {
            let size = value.parse().ok().filter(|size| *size > 0);
            options.pool_size = size.ok_or_else(|| invalid("expected a number from 1"))?;
        }
        "listen" => *options = options.clone().listen(value)?,
        "response_timeout" => options.response_timeout = duration()?,
        "retry_for" => options.retry_for = duration()?,
        "sslmode" => {
            let expected = "expected `disable`, `prefer`, `require`, `verify-ca` or `verify-full`";
            options.tls.mode = SslMode::parse(value).ok_or_else(|| invalid(expected))?;
            if cfg!(not(feature = "tls"))
                && !matches!(options.tls.mode, SslMode::Disable | SslMode::Prefer)
            {
                return Err(OptionsError::NoTls(value.to_owned()));
            }
            options.config.ssl_mode(options.tls.mode.of_config());
        }
        "sslrootcert" => files.ca = Some(value.into()),
        "sslcert" => files.cert = Some(value.into()),
        "sslkey" => files.key = Some(value.into()),
        _ => return Err(OptionsError::Parameter(name.to_owned())),
    }
    Ok(())
}
